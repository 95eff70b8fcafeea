"""From text to model inputs: entity types, words, tokens, windows, and the way back to character offsets."""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WordSpans = Sequence[tuple[int, int]]
PIECE = 2**16  # characters that are tokenised at once, at least

# Scripts written without spaces (or, as Korean, with particles tied to the name): each character is a word, so that a
# mention can start and end anywhere. Han, kana, bopomofo, hangul, Thai, Lao, Khmer, Myanmar.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+|_|[^\w\s]")
_UNSPACED_CHARACTER = re.compile(rf"[{_UNSPACED}]")
_BLANK = re.compile(r"\s")
_JOINERS = {"\u200d", "\u2060", "\u00ad"}  # zero-width joiner, word joiner, soft hyphen


def _glues(character: str) -> bool:
    """Whether a character never stands alone: a combining mark, a joiner, an emoji's skin tone."""
    return (
        character in _JOINERS or unicodedata.category(character)[0] == "M" or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


def split_words(text: str) -> list[tuple[int, int]]:
    """Character spans of the words of a text: the one splitter of training and inference.

    A word is a run of letters and digits, or one other character that is no white space. It is fine enough that
    "IL-2-mediated" can hold "IL-2". Characters of scripts written without spaces are words of their own; combining
    marks and joined emoji stay with the character they belong to.

    >>> split_words("IL-2-mediated")
    [(0, 2), (2, 3), (3, 4), (4, 5), (5, 13)]
    """
    words = [match.span() for match in _WORD.finditer(text)]
    if text.isascii():
        return words
    glued: list[tuple[int, int]] = []
    for start, end in words:
        if glued and glued[-1][1] == start:
            before = text[start - 1]
            same_word = (
                before != "\ufe0f"
                and _glues(before)
                and text[start].isalnum()
                and text[glued[-1][0]].isalnum()
                and not _UNSPACED_CHARACTER.match(text[start])
                and not _UNSPACED_CHARACTER.match(text[glued[-1][0]])
            )
            if _glues(text[start]) or before == "\u200d" or same_word:
                glued[-1] = (glued[-1][0], end)
                continue
        glued.append((start, end))
    return glued


@dataclass(slots=True)
class EncodedText:
    """A whole text in tokens, without special tokens.

    Args:
        input_ids: [N].
        starts: [N], where the word begins (a character offset) that a token is the first of; -1 on other tokens.
        ends: [N], where the word ends that a token is the last of; -1 on other tokens.
        breakable: [N], whether a window may begin at a token, that is, whether it does not continue a word.
    """

    input_ids: list[int]
    starts: list[int]
    ends: list[int]
    breakable: list[bool]

    def locate(self, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int] | None]:
        """First and last token of mentions given by character offsets; None where their edges are no word edges."""
        firsts = {offset: token for token, offset in enumerate(self.starts) if offset >= 0}
        lasts = {offset: token for token, offset in enumerate(self.ends) if offset >= 0}
        located: list[tuple[int, int] | None] = []
        for start, end in spans:
            first, last = firsts.get(start), lasts.get(end)
            located.append(None if first is None or last is None or last < first else (first, last))
        return located


@dataclass(slots=True)
class TextWindow:
    """What the model reads at once, special tokens included. L tokens.

    Args:
        input_ids: [L].
        starts, ends: [L], character offsets of word edges as in `EncodedText`; -1 on special tokens.
        owned: where windows overlap, this one decides the spans with owned[0] < first + last <= owned[1].
        begin, stop: the window's tokens in the text, `stop` exclusive.
    """

    input_ids: list[int]
    starts: list[int]
    ends: list[int]
    owned: tuple[int, int]
    begin: int
    stop: int

    @property
    def word_start_mask(self) -> list[int]:
        return [int(offset >= 0) for offset in self.starts]

    @property
    def word_end_mask(self) -> list[int]:
        return [int(offset >= 0) for offset in self.ends]


class _Tokens:
    """The tokens of a text that comes in pieces: known as far as somebody asked, forgotten where nobody will ask."""

    def __init__(self, pieces: Iterable[EncodedText]) -> None:
        self._pieces = iter(pieces)
        self._held = EncodedText([], [], [], [])
        self._forgotten = 0

    def count(self, wanted: int) -> int:
        """Tokens known, at least `wanted` where the text has so many."""
        held = self._held
        while self._forgotten + len(held.input_ids) < wanted:
            piece = next(self._pieces, None)
            if piece is None:
                break
            held.input_ids += piece.input_ids
            held.starts += piece.starts
            held.ends += piece.ends
            held.breakable += piece.breakable
        return self._forgotten + len(held.input_ids)

    def breakable(self, token: int) -> bool:
        return self._held.breakable[token - self._forgotten]

    def between(self, begin: int, stop: int) -> tuple[list[int], list[int], list[int]]:
        part = slice(begin - self._forgotten, stop - self._forgotten)
        return self._held.input_ids[part], self._held.starts[part], self._held.ends[part]

    def forget(self, begin: int) -> None:
        """Let go of the tokens before `begin`; now and then, since it moves all others."""
        if begin - self._forgotten > PIECE // 16:
            part = slice(begin - self._forgotten, None)
            held = self._held
            self._held = EncodedText(held.input_ids[part], held.starts[part], held.ends[part], held.breakable[part])
            self._forgotten = begin


def _pieces(text: str, words: WordSpans | None) -> Iterator[tuple[int, str, WordSpans | None]]:
    """Take a long text apart before blanks, or after words where these are given: (begin, text, words) of each piece.

    Text that has no blank in two pieces' length is taken apart between two words.
    """
    begin = word = 0
    while len(text) - begin > 2 * PIECE:
        if words is None:
            blank = _BLANK.search(text, begin + PIECE, begin + 2 * PIECE)
            if blank is not None:
                cut = blank.start()
            else:
                cut = begin + (split_words(text[begin : begin + 2 * PIECE])[-1][0] or 2 * PIECE)
            yield begin, text[begin:cut], None
        else:
            stop = bisect_right(words, begin + PIECE, lo=word, key=lambda span: span[1])
            stop = min(max(stop, word + 1), len(words))
            cut = words[stop - 1][1] if stop > word else len(text)
            yield begin, text[begin:cut], [(start - begin, end - begin) for start, end in words[word:stop]]
            word = stop
        begin = cut
    rest = None if words is None else [(start - begin, end - begin) for start, end in words[word:]]
    yield begin, text[begin:], rest


class BinderProcessor:
    """Turns texts into windows and descriptions into type inputs.

    Args:
        tokenizer: a fast tokenizer whose sequences start with [CLS] (or `<s>`).
        max_length: tokens in a window, special tokens included.
        stride: tokens that neighbouring windows share; a mention longer than this may be cut by a window's edge.

    Raises:
        ValueError: the tokenizer is not fast or has no [CLS], or stride and max_length do not fit together.
    """

    def __init__(self, tokenizer: Any, max_length: int = 256, stride: int = 32) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"{type(tokenizer).__name__} is not a fast tokenizer, and only those know where a token stands in the "
                "text. Load one with AutoTokenizer.from_pretrained(...) from a checkpoint that has a tokenizer.json."
            )
        frame = tokenizer("")["input_ids"]
        if not frame or frame[0] not in (tokenizer.cls_token_id, tokenizer.bos_token_id):
            raise ValueError(
                f"{type(tokenizer).__name__} puts no [CLS] token before a text, and BINDER's threshold is the score of "
                "[CLS]. Use an encoder such as BERT, RoBERTa, DeBERTa, ELECTRA or ModernBERT."
            )
        self.tokenizer = tokenizer
        self.prefix, self.suffix = frame[:1], frame[1:]
        self.max_length, self.stride = max_length, stride
        self.capacity = max_length - len(frame)  # tokens of text in a window
        if not 0 <= stride < self.capacity:
            raise ValueError(
                f"stride must be at least 0 and less than max_length minus the {len(frame)} special tokens, got "
                f"stride={stride} and max_length={max_length}. Try stride={max(0, max_length // 8)}"
                + (f" and max_length={len(frame) + 2} or more." if self.capacity < 2 else ".")
            )

    @classmethod
    def for_model(
        cls, model: Any, tokenizer: Any, max_length: int | None = None, stride: int | None = None
    ) -> "BinderProcessor":
        """The processor of a `BinderModel`: its configuration's window, or a smaller or larger one that it can read.

        Raises:
            ValueError: `max_length` is more than the text encoder or the tokenizer can read.
        """
        limits = [limit for limit in (tokenizer.model_max_length, model.max_positions) if limit is not None]
        longest = min(limits, default=model.config.max_length)
        if max_length is not None and max_length > longest:
            raise ValueError(f"max_length={max_length} is more than the {longest} tokens that the model reads at once.")
        length = min(model.config.max_length, longest) if max_length is None else max_length
        # A window shorter than the configuration's overlaps in proportion.
        return cls(tokenizer, length, min(model.config.stride, length // 8) if stride is None else stride)

    def encode(self, text: str, words: WordSpans | None = None) -> EncodedText:
        """Tokenise a whole text and find the word edges among its tokens.

        Args:
            text: any text, also an empty one.
            words: character spans of its words, in order and apart; split by `split_words` where not given.

        A token that spans two words is the first token of the one and the last token of the other: spans stay exact,
        and only those that would cut the token are lost.
        """
        encoding = self.tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # a long text is windowed here, so the warning about its length would mislead
        )
        input_ids: list[int] = encoding["input_ids"]
        spans = split_words(text) if words is None else words
        word_starts = [start for start, _ in spans]
        word_ends = [end for _, end in spans]
        count = len(input_ids)
        first_words, last_words = [-1] * count, [-1] * count
        for token, (start, end) in enumerate(encoding["offset_mapping"]):
            first = bisect_right(word_ends, start)  # the first word that ends after the token starts
            last = bisect_left(word_starts, end) - 1  # the last word that starts before the token ends
            if first <= last and start < end:
                first_words[token], last_words[token] = first, last
        starts, ends, breakable = [-1] * count, [-1] * count, [True] * count
        previous = -1  # last word touched by the tokens so far
        for token, word in enumerate(first_words):
            if word > previous:
                starts[token] = word_starts[word]
            elif word >= 0:
                breakable[token] = False
            previous = max(previous, last_words[token])
        following = len(spans)  # first word touched by the tokens after
        for token in range(count - 1, -1, -1):
            word = last_words[token]
            if 0 <= word < following:
                ends[token] = word_ends[word]
            if word >= 0:
                following = min(following, first_words[token])
        return EncodedText(input_ids, starts, ends, breakable)

    def read(self, text: str, words: WordSpans | None = None) -> Iterator[TextWindow]:
        """The windows of a text one after the other, tokenised piece by piece: memory does not grow with the text.

        The same as `windows(encode(text, words))`, as long as the text has blanks to be taken apart at.
        """
        return self._windows(self._encoded(*piece) for piece in _pieces(text, words))

    def _encoded(self, begin: int, text: str, words: WordSpans | None) -> EncodedText:
        encoded = self.encode(text, words)
        if begin:
            encoded.starts = [offset + begin if offset >= 0 else offset for offset in encoded.starts]
            encoded.ends = [offset + begin if offset >= 0 else offset for offset in encoded.ends]
        return encoded

    def windows(self, encoded: EncodedText) -> list[TextWindow]:
        """Cut an encoded text into windows of at most `max_length` tokens that overlap by about `stride`.

        Windows begin and end between words where they can. Each span that lies in some window is decided by exactly
        one window that holds it, the one whose middle it is nearest to. An empty text gives one window.
        """
        return list(self._windows([encoded]))

    def _windows(self, pieces: Iterable[EncodedText]) -> Iterator[TextWindow]:
        tokens = _Tokens(pieces)
        begin, low, reached = 0, -1, 0
        while True:
            stop = begin + self.capacity
            count = tokens.count(stop + 1)
            if count <= stop:
                yield self._window(tokens, begin, count, low, 2 * count)
                return
            cut = stop
            least = max(begin + self.stride, reached) + 1  # or the window would tell nothing new
            while cut > least and not tokens.breakable(cut):
                cut -= 1
            if tokens.breakable(cut):
                stop = cut
            # Back by the stride, then on to where a word begins; always further than the window before.
            start = max(stop - self.stride, begin + 1)
            back = start
            while back > begin + 1 and not tokens.breakable(back):
                back -= 1
            following = back if tokens.breakable(back) else start
            high = following + stop - 1  # first + last of a span, up to which the earlier of two neighbours decides
            yield self._window(tokens, begin, stop, low, high)
            tokens.forget(following)
            begin, low, reached = following, high, stop

    def _window(self, tokens: "_Tokens", begin: int, stop: int, low: int, high: int) -> TextWindow:
        """The window of the text's tokens begin..stop; low and high count in the text."""
        shift = 2 * (len(self.prefix) - begin)
        input_ids, starts, ends = tokens.between(begin, stop)
        padding = [-1] * len(self.suffix)
        return TextWindow(
            input_ids=self.prefix + input_ids + self.suffix,
            starts=[-1, *starts, *padding],
            ends=[-1, *ends, *padding],
            owned=(low + shift, high + shift),
            begin=begin,
            stop=stop,
        )

    def encode_types(self, descriptions: Iterable[str], max_length: int | None = None) -> dict[str, Any]:
        """Tokenise descriptions for `BinderModel.encode_types`.

        Args:
            descriptions: one text per type.
            max_length: tokens that the type encoder can read.

        Returns:
            `type_input_ids` and `type_attention_mask`, [T, longest description], as tensors.

        Raises:
            ValueError: a description is longer than the type encoder can read. Nothing is cut in silence.
        """
        texts = list(descriptions)
        encoding = self.tokenizer(
            texts, padding=True, padding_side="right", return_token_type_ids=False, return_tensors="pt", verbose=False
        )
        length = encoding["input_ids"].shape[1]
        if max_length is not None and length > max_length:
            longest = max(texts, key=len)
            raise ValueError(
                f"a description has {length} tokens, more than the {max_length} that the type encoder reads; shorten "
                f"it: {longest[:60]!r}..."
            )
        return {"type_input_ids": encoding["input_ids"], "type_attention_mask": encoding["attention_mask"]}


def resolve_entity_types(
    entity_types: str | Sequence[str] | Mapping[str, str] | Sequence[Mapping[str, str]] | None,
    known: Mapping[str, str],
) -> dict[str, str]:
    """Entity types as name -> description.

    Args:
        entity_types: names, name -> description, or `{"name", "description"}` dictionaries; None for the known ones.
            A name without a description takes the known type's, or else describes itself.
        known: the types that the model was trained with.

    Raises:
        ValueError: there is no type at all, or a name or a description is blank or no text.
    """
    if entity_types is None:
        resolved = dict(known)
    elif isinstance(entity_types, str):
        resolved = {entity_types: known.get(entity_types, entity_types)}
    elif isinstance(entity_types, Mapping):
        resolved = {name: known.get(name, name) if text is None else text for name, text in entity_types.items()}
    else:
        resolved = {}
        for item in entity_types:
            name = item["name"] if isinstance(item, Mapping) else item
            text = item.get("description") if isinstance(item, Mapping) else None
            if name in resolved:
                raise ValueError(f"the entity type {name!r} is there twice; names must differ.")
            resolved[name] = text if text is not None else known.get(name, name)
    if not resolved:
        raise ValueError(
            "there are no entity types: pass entity_types=['Disease', ...] or entity_types={'Disease': 'The name of "
            "a disease.'}, or use a model whose config has entity_types."
        )
    for name, text in resolved.items():
        if not isinstance(name, str) or not name.strip() or not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"an entity type needs a name and a description that are not blank, got {name!r}: {text!r}."
            )
    return resolved

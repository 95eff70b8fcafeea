"""Convert text to model inputs: tokens and windows with the character offsets of words."""

import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .numbers_binder import whole_number
from .words_binder import split_words

WordSpans = Sequence[tuple[int, int]]
MIN_PIECE_CHARACTERS = 2**16  # a long text is tokenised in pieces with at least this many characters

_WHITE_SPACE = re.compile(r"\s")
_SURROGATE = re.compile("[\ud800-\udfff]")
# White space that is also a control character. BERT's tokenizer deletes control characters, and so would join the words
# around it. Word processors export line breaks and page breaks as such characters.
_CONTROL_SPACE = re.compile("[\x0b\x0c\x1c-\x1f\x85]")


def _tokenizable(text: str) -> str:
    """Replace characters that tokenizers reject or delete. Offsets do not change.

    Lone surrogates become U+FFFD, and white space that is also a control character becomes a space.
    """
    text = _CONTROL_SPACE.sub(" ", text)
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


@dataclass(slots=True)
class EncodedText:
    """The N tokens of a text, without special tokens.

    Args:
        input_ids: [N].
        starts: [N], character offset of the start of each word, at its first token. -1 for other tokens.
        ends: [N], character offset of the end of each word, at its last token. -1 for other tokens.
        breakable: [N], true if a window may begin at the token. False for tokens that continue a word.
    """

    input_ids: list[int]
    starts: list[int]
    ends: list[int]
    breakable: list[bool]

    def locate(self, spans: Iterable[tuple[int, int]]) -> list[tuple[int, int] | None]:
        """Return the first and last token of each character span, or None if it does not consist of whole words."""
        firsts = {offset: token for token, offset in enumerate(self.starts) if offset >= 0}
        lasts = {offset: token for token, offset in enumerate(self.ends) if offset >= 0}
        located: list[tuple[int, int] | None] = []
        for start, end in spans:
            first, last = firsts.get(start), lasts.get(end)
            located.append(None if first is None or last is None or last < first else (first, last))
        return located


@dataclass(slots=True)
class TextWindow:
    """A window: L tokens of a text that the model encodes together, special tokens included.

    Args:
        input_ids: [L].
        starts, ends: [L], character offsets of words as in `EncodedText`. -1 for special tokens.
        owned: two numbers. Windows overlap, so each span is assigned to a single window. This window predicts the span
            from its token `first` to its token `last` if owned[0] < first + last <= owned[1].
        begin, stop: the window contains the tokens begin..stop of the text, `stop` exclusive.
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
    """The tokens of a text. It is tokenised in pieces on demand, and tokens that are no longer needed are dropped."""

    def __init__(self, pieces: Iterable[EncodedText]) -> None:
        self._pieces = iter(pieces)
        self._kept = EncodedText([], [], [], [])
        self._dropped = 0

    def count(self, wanted: int) -> int:
        """Tokenise pieces until there are at least `wanted` tokens or the text ends. Return the number of tokens."""
        kept = self._kept
        while self._dropped + len(kept.input_ids) < wanted:
            piece = next(self._pieces, None)
            if piece is None:
                break
            kept.input_ids += piece.input_ids
            kept.starts += piece.starts
            kept.ends += piece.ends
            kept.breakable += piece.breakable
        return self._dropped + len(kept.input_ids)

    def breakable(self, token: int) -> bool:
        return self._kept.breakable[token - self._dropped]

    def between(self, begin: int, stop: int) -> tuple[list[int], list[int], list[int]]:
        part = slice(begin - self._dropped, stop - self._dropped)
        return self._kept.input_ids[part], self._kept.starts[part], self._kept.ends[part]

    def drop_before(self, begin: int) -> None:
        """Drop the tokens before `begin` if they are many. If they are few, this would cost more time than it saves."""
        if begin - self._dropped > MIN_PIECE_CHARACTERS // 16:
            part = slice(begin - self._dropped, None)
            kept = self._kept
            self._kept = EncodedText(kept.input_ids[part], kept.starts[part], kept.ends[part], kept.breakable[part])
            self._dropped = begin


def _pieces(text: str, words: WordSpans | None) -> Iterator[tuple[int, str, WordSpans | None]]:
    """Split a long text into pieces. Yield the offset, the text and the words of each piece.

    If `words` is given, the text is split after a word. Otherwise it is split before white space, or between two words
    if there is no white space.
    """
    begin = word = 0
    while len(text) - begin > 2 * MIN_PIECE_CHARACTERS:
        if words is None:
            space = _WHITE_SPACE.search(text, begin + MIN_PIECE_CHARACTERS, begin + 2 * MIN_PIECE_CHARACTERS)
            if space is not None:
                cut = space.start()
            else:
                cut = begin + (
                    split_words(text[begin : begin + 2 * MIN_PIECE_CHARACTERS])[-1][0] or 2 * MIN_PIECE_CHARACTERS
                )
            yield begin, text[begin:cut], None
        else:
            stop = bisect_right(words, begin + MIN_PIECE_CHARACTERS, lo=word, key=lambda span: span[1])
            stop = min(max(stop, word + 1), len(words))
            cut = words[stop - 1][1] if stop > word else len(text)
            yield begin, text[begin:cut], [(start - begin, end - begin) for start, end in words[word:stop]]
            word = stop
        begin = cut
    rest = None if words is None else [(start - begin, end - begin) for start, end in words[word:]]
    yield begin, text[begin:], rest


def _covered_words(
    offsets: Sequence[tuple[int, int]], word_starts: Sequence[int], word_ends: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the first and the last word that each token overlaps. -1 for tokens that overlap no word."""
    first_words, last_words = [-1] * len(offsets), [-1] * len(offsets)
    for token, (start, end) in enumerate(offsets):
        first = bisect_right(word_ends, start)  # the first word that ends after the token starts
        last = bisect_left(word_starts, end) - 1  # the last word that starts before the token ends
        if first <= last and start < end:
            first_words[token], last_words[token] = first, last
    return first_words, last_words


class BinderWindower:
    """Tokenises texts and splits them into windows. Also tokenises the descriptions of entity types.

    Args:
        tokenizer: a fast tokenizer that starts each sequence with [CLS] (or `<s>`).
        max_length: maximum number of tokens in a window, special tokens included.
        stride: minimum number of tokens that neighbouring windows share. A window contains every span of up to
            stride + 1 tokens. A longer span cannot be found if no window contains the whole span. With the defaults
            (stride 32, `max_span_width` 64), this can happen to spans of 34 to 64 tokens, which are rare. For longer
            mentions, use a larger stride. It takes more time, because each window has fewer new tokens.
        type_tokenizer: the tokenizer of descriptions. Defaults to `tokenizer`.

    Raises:
        ValueError: the tokenizer is not fast or adds no [CLS], or the stride is negative or too large for max_length.
    """

    def __init__(self, tokenizer: Any, max_length: int = 256, stride: int = 32, type_tokenizer: Any = None) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"{type(tokenizer).__name__} is not a fast tokenizer, and only fast tokenizers return the offsets of "
                "tokens. Load one with AutoTokenizer.from_pretrained(...) from a checkpoint that has a tokenizer.json."
            )
        frame = tokenizer("")["input_ids"]
        if not frame or frame[0] not in (tokenizer.cls_token_id, tokenizer.bos_token_id):
            raise ValueError(
                f"{type(tokenizer).__name__} adds no [CLS] token before a text, but BINDER's threshold is the score of "
                "[CLS]. Use an encoder such as BERT, RoBERTa, DeBERTa, ELECTRA or ModernBERT."
            )
        self.tokenizer = tokenizer
        self.type_tokenizer = tokenizer if type_tokenizer is None else type_tokenizer
        self.prefix, self.suffix = frame[:1], frame[1:]
        max_length, stride = whole_number("max_length", max_length), whole_number("stride", stride)
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
    ) -> "BinderWindower":
        """Create the windower of a `BinderModel`.

        Args:
            model, tokenizer: the model and its tokenizer.
            max_length: defaults to `config.max_length`, or less if the text encoder or the tokenizer accepts fewer
                tokens.
            stride: defaults to `config.stride`, or less in proportion if you pass a smaller `max_length` than
                `config.max_length`. The default is always so small that each window has new tokens.

        Raises:
            ValueError: `max_length` is more than the text encoder or the tokenizer accepts, or the stride is negative
                or too large for `max_length`.
        """
        limits = [limit for limit in (tokenizer.model_max_length, model.max_positions) if limit is not None]
        longest = min(limits, default=model.config.max_length)
        max_length = None if max_length is None else whole_number("max_length", max_length)
        if max_length is not None and max_length > longest:
            raise ValueError(
                f"max_length={max_length} is more than the {longest} tokens that the encoder and the tokenizer accept."
            )
        config = model.config
        if stride is None:
            stride = config.stride
            if max_length is not None and max_length < config.max_length:
                special = len(tokenizer("")["input_ids"])
                stride = max(0, min(stride * max_length // config.max_length, max_length - special - 1))
        if max_length is None:
            max_length = min(config.max_length, longest)
        return cls(tokenizer, max_length, stride, model.type_tokenizer)

    def encode(self, text: str, words: WordSpans | None = None) -> EncodedText:
        """Tokenise a text, and find the first and the last token of each word.

        If a token covers two words, it is the first token of the first word and the last token of the second word. The
        offsets are exact, but a span that begins or ends inside the token cannot be found.

        BERT's tokenizer replaces a whole word by [UNK] if it contains an unknown character. A word extends to the next
        white space or punctuation, so "Oslo🎉" would be one [UNK]. The words in such a token are tokenised separately.

        Args:
            text: a text, which may be empty. Lone surrogates (invalid characters) are replaced by U+FFFD.
            words: character spans of the words, ordered and without overlaps. Defaults to `split_words(text)`.
        """
        text = _tokenizable(text)
        spans = split_words(text) if words is None else words
        word_starts = [start for start, _ in spans]
        word_ends = [end for _, end in spans]
        input_ids, offsets = self._tokenize(text)
        first_words, last_words = _covered_words(offsets, word_starts, word_ends)
        unknown = self.tokenizer.unk_token_id
        if unknown in input_ids:
            borders = [
                word_starts[word]
                for token, first, last in zip(input_ids, first_words, last_words, strict=True)
                if token == unknown
                for word in range(first + 1, last + 1)
                if text[word_starts[word - 1]].isalnum() or text[word_starts[word]].isalnum()
            ]
            if borders:
                input_ids, offsets = self._tokenize_apart(text, borders)
                first_words, last_words = _covered_words(offsets, word_starts, word_ends)
        count = len(input_ids)
        starts, ends, breakable = [-1] * count, [-1] * count, [True] * count
        previous = -1  # last word that the tokens before the current token overlap
        for token, word in enumerate(first_words):
            if word > previous:
                starts[token] = word_starts[word]
            elif word >= 0:
                breakable[token] = False
            previous = max(previous, last_words[token])
        following = len(spans)  # first word that the tokens after the current token overlap
        for token in range(count - 1, -1, -1):
            word = last_words[token]
            if 0 <= word < following:
                ends[token] = word_ends[word]
            if word >= 0:
                following = min(following, first_words[token])
        return EncodedText(input_ids, starts, ends, breakable)

    def _tokenize(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the token ids of a text, and the character offsets of the tokens."""
        encoding = self.tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # no warning about the length, because long texts are split into windows
        )
        return encoding["input_ids"], encoding["offset_mapping"]

    def _tokenize_apart(self, text: str, borders: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokenise a text with a space inserted at each of the ascending offsets. Return offsets in the given text."""
        edges = [0, *borders, len(text)]
        input_ids, offsets = self._tokenize(" ".join(text[start:end] for start, end in pairwise(edges)))
        inserted = [border + number for number, border in enumerate(borders)]  # offsets of the inserted spaces
        moved = [(start - bisect_left(inserted, start), end - bisect_left(inserted, end)) for start, end in offsets]
        return input_ids, moved

    def read(self, text: str, words: WordSpans | None = None) -> Iterator[TextWindow]:
        """Yield the windows of a text. The text is tokenised in pieces, so memory does not grow with its length.

        The result is the same as `windows(encode(text, words))`. Only a very long text without white space may have
        other tokens where two pieces meet.
        """
        return self._windows(self._encoded(*piece) for piece in _pieces(text, words))

    def _encoded(self, begin: int, text: str, words: WordSpans | None) -> EncodedText:
        encoded = self.encode(text, words)
        if begin:
            encoded.starts = [offset + begin if offset >= 0 else offset for offset in encoded.starts]
            encoded.ends = [offset + begin if offset >= 0 else offset for offset in encoded.ends]
        return encoded

    def windows(self, encoded: EncodedText) -> list[TextWindow]:
        """Split an encoded text into windows of at most `max_length` tokens that overlap by at least `stride` tokens.

        Windows begin and end between words if possible. If several windows contain a span, the window whose middle is
        nearest to the span predicts it. An empty text has one window.
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
            # A window must end after the previous window, and the next window must begin after this window begins.
            least = max(begin + self.stride, reached) + 1
            while cut > least and not tokens.breakable(cut):
                cut -= 1
            if tokens.breakable(cut):
                stop = cut
            # The next window begins `stride` tokens before the end of this window. If this position is inside a word,
            # it begins earlier, at the start of the word, but always later than this window.
            start = max(stop - self.stride, begin + 1)
            back = start
            while back > begin + 1 and not tokens.breakable(back):
                back -= 1
            following = back if tokens.breakable(back) else start
            high = following + stop - 1  # this window predicts the spans with first + last up to `high`
            yield self._window(tokens, begin, stop, low, high)
            tokens.drop_before(following)
            begin, low, reached = following, high, stop

    def _window(self, tokens: "_Tokens", begin: int, stop: int, low: int, high: int) -> TextWindow:
        """Return the window of the tokens begin..stop of a text. It predicts spans with low < first + last <= high.

        Here, first and last are positions in the text. In `TextWindow.owned`, they are positions in the window.
        """
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
            descriptions: one text per entity type.
            max_length: maximum number of tokens that the type encoder accepts. `None` means no limit.

        Returns:
            `type_input_ids` and `type_attention_mask`, tensors [T, length of the longest description].

        Raises:
            ValueError: a description is longer than the type encoder accepts. Descriptions are never truncated.
        """
        texts = [_tokenizable(text) for text in descriptions]
        encoding = self.type_tokenizer(
            texts, padding=True, padding_side="right", return_token_type_ids=False, return_tensors="pt", verbose=False
        )
        length = encoding["input_ids"].shape[1]
        if max_length is not None and length > max_length:
            longest = max(texts, key=len)
            raise ValueError(
                f"a description has {length} tokens, more than the {max_length} that the type encoder accepts. Shorten "
                f"it: {longest[:60]!r}..."
            )
        return {"type_input_ids": encoding["input_ids"], "type_attention_mask": encoding["attention_mask"]}


def __getattr__(name: str) -> Any:
    if name == "BinderProcessor":
        warnings.warn("BinderProcessor is now BinderWindower.", FutureWarning, stacklevel=2)
        return BinderWindower
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

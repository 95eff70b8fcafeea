"""Split texts into words, and join words to a text."""

import re
import unicodedata
from collections.abc import Iterable

# Characters of scripts without spaces between words, or with particles attached to names as in Korean. Each character
# is a word, so that a mention can start and end anywhere. The scripts are Han, kana (also half-width kana), bopomofo,
# hangul, Yi, Thai, Lao, Khmer, Myanmar, Tai scripts, Balinese and Javanese.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\u2e80-\u2fdf"
    "\u3005-\u3007\u3021-\u3029\u3040-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua97f\ua980-\ua9ff"
    "\uaa60-\uaadf\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+|_|[^\w\s]")
_UNSPACED_CHARACTER = re.compile(rf"[{_UNSPACED}]")
_JOINERS = {"\u200d", "\u2060", "\u00ad"}  # zero-width joiner, word joiner, soft hyphen


# More characters that belong to the character before them: vowels and final consonants of decomposed hangul, voicing
# marks of half-width kana, skin tones, tags of flags
_GLUED = re.compile("[\u1160-\u11ff\ud7b0-\ud7ff\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
_FLAG_LETTER = re.compile("[\U0001f1e6-\U0001f1ff]")  # a pair of these letters is the emoji of a flag


def _glues(character: str) -> bool:
    """Return whether a character belongs to the character before it, such as a combining mark or a joiner."""
    return character in _JOINERS or unicodedata.category(character)[0] == "M" or bool(_GLUED.match(character))


def split_words(text: str) -> list[tuple[int, int]]:
    """Split a text into words and return their character spans. Training and inference use this function.

    A word is a sequence of letters and digits, or any other single character except white space. So a mention "IL-2"
    can be found inside "IL-2-mediated". In scripts without spaces, each character is a word. Combining marks and joined
    emoji are in the same word as the character before them.

    Example:
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
            is_flag = glued[-1] == (start - 1, start) and _FLAG_LETTER.match(before) and _FLAG_LETTER.match(text[start])
            if _glues(text[start]) or before == "\u200d" or same_word or is_flag:
                glued[-1] = (glued[-1][0], end)
                continue
        glued.append((start, end))
    return glued


def join_words(words: Iterable[str], keep_blank: bool = True) -> tuple[str, list[tuple[int, int] | None]]:
    """Join words by single spaces. Return the text and the character span of each word, or None for a blank word.

    Args:
        words: the words.
        keep_blank: keep blank words in the text.

    >>> join_words(["IL-2", "", "gene"])
    ('IL-2  gene', [(0, 4), None, (6, 10)])
    >>> join_words(["IL-2", "", "gene"], keep_blank=False)
    ('IL-2 gene', [(0, 4), None, (5, 9)])
    """
    kept: list[str] = []
    spans: list[tuple[int, int] | None] = []
    position = 0
    for word in words:
        is_blank = not word.strip()
        spans.append(None if is_blank else (position, position + len(word)))
        if keep_blank or not is_blank:
            kept.append(word)
            position += len(word) + 1
    return " ".join(kept), spans

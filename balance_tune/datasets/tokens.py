"""Text as numbers without a vocabulary file: every word has the number its bytes hash to."""

from __future__ import annotations

import re
import unicodedata
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

PADDING = 0
VOCABULARY = 30522
"""As many numbers as BERT's vocabulary has words."""
_WITHOUT_BLANKS = (
    ("\u2e80", "\u2fdf"),  # radicals of Han
    ("\u3005", "\u3007"),
    ("\u3021", "\u3029"),
    ("\u3040", "\u30ff"),  # Hiragana, Katakana
    ("\u3100", "\u312f"),  # Bopomofo
    ("\u31a0", "\u31bf"),
    ("\u31f0", "\u31ff"),
    ("\u3400", "\u4dbf"),  # Han
    ("\u4e00", "\u9fff"),
    ("\uf900", "\ufaff"),
    ("\uff66", "\uff9f"),
    ("\U0001b000", "\U0001b16f"),
    ("\U00020000", "\U0003ffff"),
    ("\u0e00", "\u0e7f"),  # Thai
    ("\u0e80", "\u0eff"),  # Lao
    ("\u0f00", "\u0fff"),  # Tibetan
    ("\u1000", "\u109f"),  # Myanmar
    ("\u1780", "\u17ff"),  # Khmer
    ("\u1950", "\u19df"),  # Tai Le, New Tai Lue
    ("\u1a20", "\u1aaf"),  # Tai Tham
    ("\ua980", "\ua9ff"),  # Javanese, Myanmar
    ("\uaa60", "\uaadf"),  # Myanmar, Tai Viet
)
"""Scripts whose words have no blanks between them: first and last character."""
_ASCII_WORD = re.compile(r"\w+|[^\w\s]")


@cache
def _word() -> re.Pattern[str]:
    """Return what a word is: a character of a script without blanks, letters with their marks, or a sign."""
    alone = "".join(f"{low}-{high}" for low, high in _WITHOUT_BLANKS)
    marks = "".join(c for c in map(chr, range(0x300, 0x10000)) if unicodedata.category(c) in ("Mn", "Mc"))
    marks = re.sub(f"[{alone}]", "", marks)
    return re.compile(rf"[{alone}]|(?:(?![{alone}])[\w{marks}])+|[^\w\s]")


def hashed(text: str, length: int, vocabulary: int = VOCABULARY) -> NDArray[np.int32]:
    """Return the words and punctuation of a text, in lower case, as (length,) numbers 1 .. vocabulary - 1, then 0.

    Of a script without blanks between words every character has a number. Composed and decomposed characters are the
    same (NFC).
    """
    pattern = _ASCII_WORD if text.isascii() else _word()  # the same of such a text, and faster
    words = pattern.findall(unicodedata.normalize("NFC", text).lower())[:length]
    numbers = np.full(length, PADDING, dtype=np.int32)
    numbers[: len(words)] = [1 + zlib.crc32(word.encode()) % (vocabulary - 1) for word in words]
    return numbers

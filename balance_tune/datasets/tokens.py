"""Text as numbers without a vocabulary file: every word has the number its bytes hash to."""

from __future__ import annotations

import re
import zlib

import numpy as np
from numpy.typing import NDArray

PADDING = 0
VOCABULARY = 30522
"""As many numbers as BERT's vocabulary has words."""
_WORD = re.compile(r"\w+|[^\w\s]")


def hashed(text: str, length: int, vocabulary: int = VOCABULARY) -> NDArray[np.int32]:
    """Return the words and punctuation of a text, in lower case, as (length,) numbers 1 .. vocabulary - 1, then 0."""
    words = _WORD.findall(text.lower())[:length]
    made = np.full(length, PADDING, dtype=np.int32)
    made[: len(words)] = [1 + zlib.crc32(word.encode()) % (vocabulary - 1) for word in words]
    return made

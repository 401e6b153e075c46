"""Words have their numbers in every script."""

from __future__ import annotations

import re
import unicodedata
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balance_tune.datasets.tokens import VOCABULARY, hashed


def number(word: str) -> int:
    return 1 + zlib.crc32(word.encode()) % (VOCABULARY - 1)


@pytest.mark.parametrize(
    "text",
    ["\u4eca\u5929\u5929\u6c14\u5f88\u597d", "\u65e5\u672c\u8a9e\u3067\u3059", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35"],
)
def test_a_script_without_blanks_has_a_number_a_character(text: str) -> None:
    assert hashed(text, 12).tolist() == [number(c) for c in text] + [0] * (12 - len(text))


def test_words_beside_such_characters_stay_words() -> None:
    found = hashed("GPU\u5f88\u5feb, 3x!", 8).tolist()
    assert found == [*map(number, ["gpu", "\u5f88", "\u5feb", ",", "3x", "!"]), 0, 0]


def test_composed_and_decomposed_characters_are_one_word() -> None:
    for word in ("caf\u00e9", "\u0928\u0939\u0940\u0902", "\ud55c\uad6d\uc5b4"):
        assert hashed(word, 4).tolist() == [number(word), 0, 0, 0]
        assert hashed(unicodedata.normalize("NFD", word), 4).tolist() == [number(word), 0, 0, 0]


@given(st.text(st.characters(max_codepoint=0x24F), max_size=60))
def test_a_text_in_latin_letters_has_the_numbers_it_always_had(text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    words = re.findall(r"\w+|[^\w\s]", text.lower())[:20]
    expected = [number(word) for word in words]
    if unicodedata.normalize("NFC", text.lower()) == text.lower() and "\u0307" not in text.lower():
        assert hashed(text, 20).tolist() == expected + [0] * (20 - len(expected))

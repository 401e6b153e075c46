"""Study files are plain data: whatever else YAML can do is refused in one line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balance_tune.errors import UserError
from balance_tune.studies.config import strict_yaml

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_words_of_yaml_1_1_stay_words() -> None:
    text = "a: no\nb: on\nc: 1_000\nd: 12:30\ne: 2024-01-01\nf: =\n"
    assert strict_yaml.parse(text) == {"a": "no", "b": "on", "c": "1_000", "d": "12:30", "e": "2024-01-01", "f": "="}


def test_numbers_as_people_write_them_are_numbers() -> None:
    assert strict_yaml.parse("[1e-3, 1E5, .5, -2, 010, 3.]") == [0.001, 1e5, 0.5, -2, 10, 3.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x\n", "line 2: aliases are not allowed, but got `*x`"),
        ("a: 1\na: 2\n", "line 2: a key must be given once, but `a` is given twice"),
        ("1: 2\n", "a key must be text, but got `1`"),
        ("? [a]\n: 1\n", "a key must be text"),
        ("a: !!python/object/apply:os.system [ls]\n", "tags are not allowed"),
        ("a: !!binary aGk=\n", "tags are not allowed"),
        ("a: !!int {}\n", "tags are not allowed"),
        ("a: .nan\n", "`a` must be a finite number, but got `nan`"),
        ("a: 1e999\n", "`a` must be a finite number, but got `inf`"),
        (f"a: {2**63}\n", "`a` must be below 2^63"),
        (f"a: {'9' * 5000}\n", "a number must be below 2^63"),
        ("[" * 50, "at most 12 levels"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("a: [1\n", "must be valid YAML"),
        ("a: '\x00'\n", "must be valid YAML"),
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        strict_yaml.parse(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@given(PLAIN)
def test_what_is_written_is_read_back_unchanged(value: object) -> None:
    assert strict_yaml.parse(strict_yaml.dump({"value": value})) == {"value": value}


@given(st.text())
def test_any_text_is_a_value_or_one_line(text: str) -> None:
    message = "one line"
    try:
        strict_yaml.parse(text)
    except UserError as error:
        message = str(error)
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("text", ["a: {a: {a: {a: 1}}}", "- 1", "", "hello", "a: &b [*b]"])
def test_a_file_holds_a_mapping_or_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    if text.startswith("a: {"):
        assert strict_yaml.read(path) == {"a": {"a": {"a": {"a": 1}}}}
    else:
        with pytest.raises(UserError, match=r"study\.yaml: "):
            strict_yaml.read(path)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes("name: größe".encode("latin-1"))
    with pytest.raises(UserError, match="must be UTF-8 text, but byte 8 is not"):
        strict_yaml.read(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert strict_yaml.read(path) == {"name": "x"}


def test_a_folder_a_huge_file_and_no_file_are_refused(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (strict_yaml.LARGEST_FILE + 1))
    with pytest.raises(UserError, match="is a folder"):
        strict_yaml.read(tmp_path)
    with pytest.raises(UserError, match="is larger"):
        strict_yaml.read(huge)
    with pytest.raises(UserError, match=r"Did you mean `huge\.yaml`"):
        strict_yaml.read(tmp_path / "hugh.yaml")
    with pytest.raises(UserError, match="must be readable"):
        strict_yaml.read(Path("a\0b"))

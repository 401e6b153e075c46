"""A table is read as its writer meant it, or refused in one line that names the row and the column."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from balance_tune.datasets.tabular import Embedded, read_table
from balance_tune.errors import UserError


def csv(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n02,y\n",
        "\ufeffa,b\n1,x\n02,y\n",
        "a;b\n1;x\n02;y\n",
        "a\tb\n1\tx\n02\ty\n",
        " a , b \n1,x\n02,y\n",
        '"a","b"\n"1","x"\n"02","y"\n',
        "a,b\r\n1,x\r\n02,y\r\n",
        ",a,b\n0,1,x\n1,02,y\n",
    ],
)
def test_a_table_is_read_however_it_was_written(tmp_path: Path, content: str) -> None:
    table = read_table(csv(tmp_path, content), ["a", "b"])
    assert table.columns == {"a": ["1", "02"], "b": ["x", "y"]}
    assert table.numbers == [2, 3]


def test_rows_are_counted_as_a_spreadsheet_counts_them(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, 'a,b\n1,x\n\n,\n2,"y\nz"\n3,w\n'))
    assert table.numbers == [2, 5, 6]
    assert table.columns["b"] == ["x", "y\nz", "w"]
    assert read_table(csv(tmp_path, 'a,b\n5" disk,"say ""hi"", x"\n')).columns == {
        "a": ['5" disk'],
        "b": ['say "hi", x'],
    }
    table = read_table(csv(tmp_path, "\ufeff\n\r\na,b\n1,x\n"))
    assert (table.numbers, table.columns) == ([4], {"a": ["1"], "b": ["x"]})
    with pytest.raises(UserError, match="row 4 of"):
        read_table(csv(tmp_path, "\n\na,b\n1\n"))


def test_lines_of_blanks_are_rows_that_are_left_out(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, "  \na,b\n1,x\n   \n\n2,y\n \t\n"), ["a", "b"])
    assert (table.numbers, table.columns) == ([3, 6], {"a": ["1", "2"], "b": ["x", "y"]})
    with pytest.raises(UserError, match=r"row 5 of .* but has 3"):
        read_table(csv(tmp_path, '  \na,b\n1,"x\ny"\n  \n2,y,z\n'), ["a", "b"])


@pytest.mark.parametrize(
    ("first", "separator"),
    [
        ("sep=;", ";"),
        ("\ufeffsep=;\r", ";"),
        ('"sep=;"', ";"),
        ("SEP=,", ","),
        ("sep=|", "|"),
        ("sep=\t", "\t"),
        ("sep=;;;", ";"),  # filled up to the width of the table
        ("sep= ", " "),
    ],
)
def test_the_first_line_may_declare_the_separator(tmp_path: Path, first: str, separator: str) -> None:
    rows = [["a", "b"], ["1,5", "x"], [], ["2", "y;z"]]
    lines = "\n".join(separator.join(f'"{cell}"' for cell in row) for row in rows)
    table = read_table(csv(tmp_path, f"{first}\n{lines}\n"), ["a", "b"])
    assert (table.separator, table.columns) == (separator, {"a": ["1,5", "2"], "b": ["x", "y;z"]})
    assert table.numbers == [3, 5]
    with pytest.raises(UserError, match=r"row 6 of .* must have as many fields as the header \(2\), but has 3"):
        read_table(csv(tmp_path, f"{first}\n{lines}\n1{separator}2{separator}3\n"), ["a", "b"])


def test_a_separator_that_is_declared_counts_where_another_would_give_the_columns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must have a column `a`, but has a,b \(separated by ;\)"):
        read_table(csv(tmp_path, "sep=;\na,b\n1,2\n"), ["a", "b"]).need(["a"])


@pytest.mark.parametrize(
    "header",
    ["\ufeff\ufeffa,b", "a,\u200bb", "\u00a0a\u00a0,b", '" a\u200b ","\ufeffb"'],
    ids=lambda header: repr(header),
)
def test_what_cannot_be_seen_is_no_part_of_a_columns_name(header: str, tmp_path: Path) -> None:
    assert read_table(csv(tmp_path, f"{header}\n1,x\n"), ["a", "b"]).columns == {"a": ["1"], "b": ["x"]}


def test_composed_and_decomposed_names_are_the_same(tmp_path: Path) -> None:
    assert list(read_table(csv(tmp_path, "e\u0301,b\n1,x\n"), ["\u00e9", "b"]).columns) == ["\u00e9", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a|b\n1|2\n", r"are separated by `\|`; put a line `sep=\|` before the header"),
        ("a b\n1 2\n", "are separated by blanks; put a line `sep= ` before the header"),
        ('{"a": 1, "b": 2}\n', "is JSON"),
        ('[{"a": 1, "b": 2}]', "is JSON"),
        ('[\n  {"a": 1, "b": 2}\n]', "is JSON"),
        ("a,b\n1,2\n\na,b\n3,4\n", r"the header must be in .* once, but row 4 is it again; remove that row"),
    ],
)
def test_a_table_of_another_form_is_named_for_what_it_is(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_table(csv(tmp_path, content), ["a", "b"])


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("# made by me", r"line 1 is `# made by me`, and the header \(`a, b`\) is line 2; remove line 1"),
        ("# made, on a day\n\n# and, by me", r"line 1 is `# made, on a day`, .* is line 4; remove lines 1 to 3"),
        ("sep=;\n# made by me", r"line 2 is `# made by me`, .* is line 3; remove line 2"),
        ("My birds", r"line 1 is `My birds`, .* is line 2; remove line 1"),
        ("\n\nMy birds;;", r"line 3 is `My birds`, .* is line 4; remove line 3"),
        ("---\nname: birds\n---", r"line 1 is `---`, .* is line 4; remove lines 1 to 3"),
    ],
)
def test_titles_and_comments_before_the_header_are_named(tmp_path: Path, before: str, message: str) -> None:
    with pytest.raises(UserError, match=f"the header must come first in .*, but {message}") as caught:
        read_table(csv(tmp_path, f"{before}\na;b\n1;x\n"), ["a", "b"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# made by me\nq,r\n1,x\n", "line 1 is `# made by me`, and it is a comment; remove line 1"),
        ("My birds\nq;r\n1;x\n", "line 1 is `My birds`, and line 2 has 2 fields; remove line 1"),
    ],
)
def test_they_are_named_where_the_header_lacks_the_columns_too(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_table(csv(tmp_path, content), ["a", "b"])


def test_a_column_may_be_called_like_a_comment(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, "#,a,b\n1,2,x\n"), ["a", "b"])
    assert table.columns == {"#": ["1"], "a": ["2"], "b": ["x"]}
    assert list(read_table(csv(tmp_path, "#id,c\n1,2\n"), ["a", "b"]).columns) == ["#id", "c"]


def test_words_that_readers_of_tables_take_for_missing_stay_words(tmp_path: Path) -> None:
    words = ["NA", "null", "007", "1e3", "True", "", "3.0"]
    table = read_table(csv(tmp_path, "text,n\n" + "".join(f"{w},{k}\n" for k, w in enumerate(words))))
    assert table.columns["text"] == words


def test_of_two_separators_the_one_that_gives_the_wanted_columns_is_taken(tmp_path: Path) -> None:
    path = csv(tmp_path, "text;label,more\na;x,1\n")
    assert read_table(path, ["text;label"]).separator == ","
    assert read_table(path, ["text"]).columns == {"text": ["a"], "label,more": ["x,1"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must have rows"),
        ("a,b\n", "must have rows"),
        ("a,b", "must have rows"),
        ("a", "must have rows"),
        ("a,b\n" + "1,2\n" * 2000 + "1,\0\n", "line 2002 holds the character NUL; remove it"),
        ("a,b\n1,\0\n" + "1,2\n" * 10, "line 2 holds the character NUL"),
        ("a,b\n1,2\n3\n", r"row 3 of .* as many fields as the header \(2\), but has 1"),
        ("a,b\n1,2,3\n", r"row 2 of .* as many fields as the header \(2\), but has 3"),
        ("a,b, a\n1,2,3\n", r"has `a` twice \(columns 1 and 3\)"),
        (b"a,b\n1,\xe9\n", r"in UTF-8, but line 2 is not \(byte 0xe9\)"),
        ("a,b\n".encode("utf-16"), "but is UTF-16"),
        ('a,b\n1,x\n2,"y\n3,z\n', "the row that begins in line 3 are not"),
        ('a,b\n1,"x\n2,y\n3,"z"\n', "the row that begins in line 2 are not"),
        ("sep=\na,b\n1,2\n", "`sep=` in line 1 of .* must declare one character between fields.* but is `sep=`"),
        ("sep=ab\na,b\n1,2\n", "but is `sep=ab`"),
        ("sep=x\na,b\n1,2\n", "but is `sep=x`"),
        ("sep=\uff1b\na,b\n1,2\n", "but is `sep=\uff1b`"),
        ("sep=;\n", "must have rows"),
        (",,\n \n", "must have rows"),
        (
            "x" * 200_000 + ",a\n1,2\n",
            "must begin with a header, but in the row of line 1: field larger than field limit",
        ),
        (b"PK\x03\x04rest", "an Excel workbook"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a git-lfs pointer"),
        ("<!DOCTYPE html><html>", "a web page"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_table(csv(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_table_that_is_no_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("", "it is a folder"), ("pipe", "it is neither a file nor a folder"), ("gone", "missing")):
        with pytest.raises(UserError, match=rf"must be a CSV or Parquet file, but .*: .*{reason}\."):
            read_table(tmp_path / name)


def test_a_missing_column_is_told_with_those_there_are(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, "a1;a2;y\n1;2;x\n"), ["z"])
    with pytest.raises(UserError, match=r"must have a column `z`, but has a1, a2, y \(separated by ;\)"):
        table.need(["z"])


@pytest.mark.parametrize("name", ["t.parquet", "t.PARQUET", "table"])
def test_parquet_is_known_by_its_content_or_its_ending(tmp_path: Path, name: str) -> None:
    parquet.write_table(pa.table({"n": [1, 2], "label": ["x", None]}), tmp_path / name)
    assert read_table(tmp_path / name).columns == {"n": ["1", "2"], "label": ["x", ""]}


def test_whole_numbers_that_a_missing_value_made_floats_are_whole_again(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "label": [1.0, None, float("nan"), 3.0],
        "half": [0.5, 1.0, 2.0, 3.0],
        "kind": pa.array(["a", "b", "a", None]).dictionary_encode(),
        "tags": [["a", "b"], [], None, ["c"]],
        "__index_level_0__": [0, 1, 2, 3],
    }
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").columns == {
        "label": ["1", "", "", "3"],
        "half": ["0.5", "1.0", "2.0", "3.0"],
        "kind": ["a", "b", "a", ""],
        "tags": [("a", "b"), (), "", ("c",)],
    }


def test_files_inside_of_a_table_are_read_when_they_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    images = [{"bytes": b"one", "path": "1.png"}, {"bytes": None, "path": "2.png"}, {"bytes": b"", "path": None}, None]
    table = pa.table({"image": images * 2, "raw": [b"a", b"b", None, b"a"] * 2, "v": [[1.5, 2.0]] * 8})
    parquet.write_table(table, path, row_group_size=3)
    columns = read_table(path).columns
    first, second, *empty = columns["image"][:4]
    assert isinstance(first, Embedded)
    assert (first.value(), second, empty) == (b"one", "2.png", ["", ""])
    raw = columns["raw"]
    assert [cell.value() if isinstance(cell, Embedded) else cell for cell in raw] == [b"a", b"b", "", b"a"] * 2
    assert isinstance(raw[0], Embedded)
    assert isinstance(raw[7], Embedded)
    assert raw[0].digest == raw[7].digest
    assert [cell.value() for cell in columns["v"] if isinstance(cell, Embedded)] == [[1.5, 2.0]] * 8


def test_a_column_of_something_else_is_told_where_it_is_needed(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [{"x": 1}], "b": ["y"]}), tmp_path / "t.parquet")
    assert list(read_table(tmp_path / "t.parquet", ["b"]).columns) == ["b"]
    with pytest.raises(UserError, match=r"column `a` of .* must hold text, numbers or files"):
        read_table(tmp_path / "t.parquet", ["a"])


def test_a_parquet_table_that_unpacks_to_gigabytes_is_read_in_little_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), ["x" * 400_000])
    parquet.write_table(pa.table({"y": same}), path)
    assert path.stat().st_size < 100_000
    cells = read_table(path).columns["y"]  # 2 GB where each row had a text of its own
    assert len({id(cell) for cell in cells}) == 1
    for value, what in [("300_000", "its text and numbers take"), ("30_000", "its cells take at least 40,000 bytes")]:
        monkeypatch.setenv("BALANCE_TUNE_MAX_BYTES", value)
        if value == "30_000":
            parquet.write_table(pa.table({"y": [1] * 5000}), path)
        with pytest.raises(UserError, match=f"must be small enough to be read, but {what}.* changes the limit"):
            read_table(path)


def test_files_in_a_row_group_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"image": [bytes([k]) * 1000 for k in range(100)]}), path, row_group_size=10)
    monkeypatch.setenv("BALANCE_TUNE_MAX_BYTES", "20_000")
    assert len(read_table(path)) == 100
    parquet.write_table(pa.table({"image": [bytes([k]) * 1000 for k in range(100)]}), path)
    with pytest.raises(UserError, match=r"files in a row group take 1.* bytes unpacked, more than 20,000"):
        read_table(path)


def test_a_table_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    for content in (b"one", b"two"):
        parquet.write_table(pa.table({"image": [content]}), path)
        (cell,) = read_table(path).columns["image"]
        assert isinstance(cell, Embedded)
        assert cell.value() == content


def test_a_parquet_table_that_ends_its_reader_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow ends the process at some damaged files; here a program does so that stands in for the reader."""
    parquet.write_table(pa.table({"y": ["a"]}), tmp_path / "t.parquet")
    (tmp_path / "reader.py").write_text("import os; os.abort()")
    monkeypatch.setattr("balance_tune.datasets.parquet_process.__file__", str(tmp_path / "reader.py"))
    with pytest.raises(UserError, match="must be a readable Parquet file, but its reader was ended by SIGABRT"):
        read_table(tmp_path / "t.parquet")

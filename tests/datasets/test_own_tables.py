"""What a user's table may look like: rows without a modality, rows listed twice, files inside of it, odd numbers."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from balance_tune.cli import main
from balance_tune.datasets.splits import PARTS
from balance_tune.datasets.store import open_store, read_manifest, verify_store
from balance_tune.datasets.table import Table
from balance_tune.errors import UserError
from balance_tune.studies.data.prepare import prepare

RECIPE: dict[str, Any] = {
    "name": "things",
    "label": "y",
    "split": {"train": 0.5, "monitor": 0.1, "val": 0.2, "test": 0.2},
    "modalities": {
        "array": {"column": "npy", "kind": "array", "shape": [3]},
        "sense": {"column": ["a", "b"], "kind": "numbers"},
    },
}


def write(folder: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    for name in {row[0] for row in rows if row[0]}:
        np.save(folder / name, np.full(3, float(name.strip("./xnpy"))))
    text = "npy,a,b,y\n" + "".join(f"{','.join(row)}\n" for row in rows)
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


def plain(count: int = 20) -> list[tuple[str, str, str, str]]:
    return [(f"x{k}.npy", f"{k}", f"{k / 2}", "cat" if k % 2 else "dog") for k in range(count)]


def prepared(table: Path, out: Path, **changes: Any) -> Any:
    return prepare(Table({**RECIPE, **changes}, table), table.parent, out)


def test_a_row_without_a_modality_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = plain()
    rows[0] = ("", *rows[0][1:])
    rows[5] = (rows[5][0], "nan", *rows[5][2:])
    table = write(tmp_path, rows)
    manifest = prepared(table, tmp_path / "s")
    assert [(s.file, s.reason) for s in manifest.skipped] == [("row 2", "`npy` is empty"), ("row 7", "`a` is empty")]
    assert sum(manifest.rows(part) for part in PARTS) == 18
    assert verify_store(tmp_path / "s") == manifest
    (tmp_path / "r.yaml").write_text(str(RECIPE))
    argv = ["data", "prepare", "table", "--source", str(table), "--recipe", str(tmp_path / "r.yaml")]
    assert main([*argv, "--out", str(tmp_path / "t"), "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    assert "2 rows are left out: row 2: `npy` is empty; row 7: `a` is empty" in err
    assert "2 samples were left out:\n- row 2: `npy` is empty\n- row 7: `a` is empty" in out


def test_a_row_without_a_modality_may_be_refused(tmp_path: Path) -> None:
    rows = plain()
    rows[3] = (rows[3][0], rows[3][1], "", rows[3][3])
    with pytest.raises(UserError, match=r"but `b` is empty in row 5 of"):
        Table({**RECIPE, "missing": "refuse"}, write(tmp_path, rows))


def test_a_row_without_a_modality_may_be_kept_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = plain(24)
    for k in (0, 3, 6, 9, 12, 15, 18, 21):
        rows[k] = ("", *rows[k][1:])
    rows[1] = ("", "", "", rows[1][3])
    manifest = prepared(write(tmp_path, rows), tmp_path / "s", missing="silence")
    assert [(s.file, s.reason) for s in manifest.skipped] == [("row 3", "`npy` and `a` are empty")]
    data = open_store(tmp_path / "s", PARTS, unseal=True)
    assert verify_store(tmp_path / "s") == manifest
    absent = {}
    for name, part in data.parts.items():
        present = torch.ones(len(part), 2, dtype=torch.bool) if part.present is None else part.present
        places = [k for k in range(24) if k != 1]  # rows of a store count the samples that are kept
        for k, row in enumerate(part.rows.tolist()):
            there = rows[places[row]][0] != ""
            assert present[k].tolist() == [there, True]
            assert part.inputs["array"][k].tolist() == ([float(places[row])] * 3 if there else [0.0] * 3)
        absent[name] = int((~present[:, 0]).sum())
    assert sum(absent.values()) == 8
    assert manifest.absent == {name: {"array": n} for name, n in absent.items() if n}
    train = data.parts["train"]
    assert train.present is not None
    have = train.inputs["array"][train.present[:, 0]].double()
    assert manifest.statistics["array"].mean == pytest.approx(have.mean(0).tolist())
    assert main(["data", "info", str(tmp_path / "s")]) == 0
    assert "without array" in capsys.readouterr().out


def test_a_label_that_is_missing_is_told_or_dropped(tmp_path: Path) -> None:
    rows = plain()
    rows[4] = (*rows[4][:3], " ")
    table = write(tmp_path, rows)
    with pytest.raises(UserError, match=r"every row must have a label, but `y` is empty in row 6 of"):
        Table(RECIPE, table)
    manifest = prepared(table, tmp_path / "s", missing_labels="drop")
    assert [(s.file, s.reason) for s in manifest.skipped] == [("row 6", "`y` is empty")]


def parts_of(folder: Path) -> dict[str, set[str]]:
    listing = pa.ipc.open_file(str(folder / "listing.arrow")).read_all().to_pylist()
    parts: dict[str, set[str]] = {}
    for row in listing:
        for file in row["files"]:
            parts.setdefault(file.removeprefix("./"), set()).add(row["part"])
    return parts


@pytest.mark.parametrize("group", [None, "a"])
def test_rows_that_share_a_file_lie_in_one_part(tmp_path: Path, group: str | None) -> None:
    rows = plain(30) + [(f"./{name}", a, "9", y) for name, a, _, y in plain(30)]
    manifest = prepared(write(tmp_path, rows), tmp_path / "s", **({"group": group} if group else {}))
    assert all(len(parts) == 1 for parts in parts_of(tmp_path / "s").values())
    assert "60 rows share a file with another row or are the same; such rows lie in one part" in manifest.limits
    verify_store(tmp_path / "s")
    path = tmp_path / "s" / "listing.arrow"
    listing = pa.ipc.open_file(str(path)).read_all()
    files = listing["files"].to_pylist()
    parts = listing["part"].to_pylist()
    files[parts.index("train")] = files[parts.index("test")]
    listing = listing.set_column(listing.column_names.index("files"), "files", pa.array(files))
    with pa.ipc.new_file(str(path), listing.schema) as writer:
        writer.write_table(listing)
    with pytest.raises(UserError, match=r"x\d+\.npy is in (train and test|test and train)"):
        verify_store(tmp_path / "s")


def test_rows_that_share_a_file_through_another_row_lie_in_one_part_with_their_group(tmp_path: Path) -> None:
    rows = [(f"x{k}.npy", f"{k // 2}", "0", "cat" if k % 2 else "dog") for k in range(40)]
    rows[3] = (rows[4][0], *rows[3][1:])  # joins the groups 1 and 2
    prepared(write(tmp_path, rows), tmp_path / "s", group="a")
    data = open_store(tmp_path / "s", PARTS, unseal=True)
    part = {row: name for name, own in data.parts.items() for row in own.rows.tolist()}
    assert len({part[row] for row in (2, 3, 4, 5)}) == 1


def test_without_rows_that_share_anything_the_split_is_what_it_was(tmp_path: Path) -> None:
    manifest = prepared(write(tmp_path, plain(40)), tmp_path / "s")
    data = open_store(tmp_path / "s", PARTS, unseal=True)
    labels = np.array([1 if k % 2 == 0 else 0 for k in range(40)])
    expected = manifest.split.assign(labels)
    for k, name in enumerate(PARTS):
        assert data.parts[name].rows.tolist() == np.flatnonzero(expected == k).tolist()


def test_rows_that_are_equal_may_be_refused_or_dropped(tmp_path: Path) -> None:
    rows = [*plain(), *plain(2)]
    table = write(tmp_path, rows)
    with pytest.raises(UserError, match=r"a file must be listed once .*x0\.npy is in row 2 of t\.csv and row 22"):
        Table({**RECIPE, "duplicates": "refuse"}, table)
    manifest = prepared(table, tmp_path / "s", duplicates="drop")
    assert [(s.file, s.reason) for s in manifest.skipped] == [
        ("row 22", "it is the same as row 2"),
        ("row 23", "it is the same as row 3"),
    ]
    rows[-1] = (*rows[-1][:3], "dog")
    with pytest.raises(UserError, match=r"row 3 and row 23 of .* have two"):
        Table({**RECIPE, "duplicates": "drop"}, write(tmp_path, rows))


def test_rows_that_share_all_of_few_files_cannot_be_split(tmp_path: Path) -> None:
    rows = [(f"x{k % 3}.npy", f"{k}", "0", "cat" if k % 2 else "dog") for k in range(30)]
    table = write(tmp_path, rows)
    with pytest.raises(UserError, match=r"the 30 rows of .* are 3 such sets, fewer than there are parts"):
        prepared(table, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    assert prepared(table, tmp_path / "s", duplicates="ignore").rows("train") == 15


def test_a_cell_that_is_no_number_is_told_with_row_and_column(tmp_path: Path) -> None:
    rows = plain(40)
    rows[7] = (rows[7][0], "high", *rows[7][2:])
    (lost,) = prepared(write(tmp_path, rows), tmp_path / "s").skipped
    assert (lost.file, lost.reason) == ("row 9", "`a` is not a number: `high` is no number")


def test_decimal_commas_are_read_where_the_recipe_says_so(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    lines = [f"x{k}.npy;{k},5;2;{'cat' if k % 2 else 'dog'}\n" for k in range(20)]
    for k in range(20):
        np.save(tmp_path / f"x{k}.npy", np.zeros(3))
    (tmp_path / "t.csv").write_text("npy;a;b;y\n" + "".join(lines))
    with pytest.raises(UserError, match=r"a decimal comma\? then the recipe must say `decimal: ','`"):
        prepared(tmp_path / "t.csv", tmp_path / "s")
    prepared(tmp_path / "t.csv", tmp_path / "t", decimal=",")
    part = open_store(tmp_path / "t").parts["train"]
    assert part.inputs["sense"].tolist() == [[row + 0.5, 2.0] for row in part.rows.tolist()]


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), value, dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def test_files_inside_of_a_parquet_table_are_prepared(tmp_path: Path) -> None:
    images = [{"bytes": png(10 * k), "path": None} for k in range(20)]
    images[7] = {"bytes": None, "path": "seven.png"}
    images[8] = images[6]
    (tmp_path / "seven.png").write_bytes(png(70))
    table = pa.table(
        {"image": images, "v": [[float(k), 1.0] for k in range(20)], "y": ["a" if k % 2 else "b" for k in range(20)]}
    )
    parquet.write_table(table, tmp_path / "t.PARQUET", row_group_size=6)
    modalities = {
        "image": {"column": "image", "kind": "image", "size": 8},
        "v": {"column": "v", "kind": "array", "shape": [2]},
    }
    manifest = prepared(tmp_path / "t.PARQUET", tmp_path / "s", modalities=modalities)
    assert manifest.skipped == ()
    data = open_store(tmp_path / "s", PARTS, unseal=True)
    part = {row: name for name, own in data.parts.items() for row in own.rows.tolist()}
    assert part[6] == part[8]  # the same bytes
    for own in data.parts.values():
        for k, row in enumerate(own.rows.tolist()):
            assert own.inputs["image"][k].unique().tolist() == [60 if row == 8 else 10 * row]
            assert own.inputs["v"][k].tolist() == [row, 1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"missing": "keep"}, "`missing` must be drop, silence or refuse, but got `keep`"),
        ({"duplicates": "keep"}, "`duplicates` must be group, refuse, drop or ignore"),
        ({"missing_labels": "none"}, "is for multilabel, but `task` is classes"),
        ({"separator": "--"}, "`separator` must be one character"),
        ({"group": "z"}, "must have a column `z`, but has npy, a, b, y"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Table({**RECIPE, **changes}, write(tmp_path, plain()))
    assert "\n" not in str(caught.value)


def test_a_class_without_a_training_row_is_told_by_its_name(tmp_path: Path) -> None:
    rows = [f"x{k}.npy,{k},0,{'cat' if k % 2 else 'dog'},{'test' if k > 15 else 'train'}\n" for k in range(20)]
    write(tmp_path, plain())
    (tmp_path / "t.csv").write_text("npy,a,b,y,part\n" + "".join(rows) + "x19.npy,1,1,emu,Test\n")
    with pytest.raises(UserError, match="every class needs a training row, but class `emu` has none"):
        prepared(tmp_path / "t.csv", tmp_path / "s", split="part")


def test_a_store_that_was_written_before_is_read_as_before(tmp_path: Path) -> None:
    prepared(write(tmp_path, plain()), tmp_path / "s")
    import json

    path = tmp_path / "s" / "manifest.json"
    manifest = json.loads(path.read_text())
    for later in ("absent", "table"):
        del manifest[later]
    path.write_text(json.dumps(manifest))
    assert read_manifest(tmp_path / "s").absent == {}
    verify_store(tmp_path / "s")


def test_rows_that_are_left_out_are_nobodys_duplicates(tmp_path: Path) -> None:
    rows = [*plain(), ("x0.npy", "0", "0.0", ""), ("", "", "", "cat"), ("", "", "", "dog"), plain()[1]]
    rows = [rows[20], *rows[:20], *rows[21:]]
    changes = {"duplicates": "drop", "missing": "silence", "missing_labels": "drop"}
    manifest = prepared(write(tmp_path, rows), tmp_path / "s", **changes)
    assert [(s.file, s.reason) for s in manifest.skipped] == [
        ("row 2", "`y` is empty"),
        ("row 23", "`npy` and `a` are empty"),
        ("row 24", "`npy` and `a` are empty"),
        ("row 25", "it is the same as row 4"),
    ]


def test_a_pipe_and_a_device_among_the_files_are_left_out(tmp_path: Path) -> None:
    rows = plain(60)
    table = write(tmp_path, rows)
    (tmp_path / "x3.npy").unlink()
    os.mkfifo(tmp_path / "x3.npy")
    (tmp_path / "x5.npy").unlink()
    (tmp_path / "x5.npy").symlink_to("/dev/zero")
    manifest = prepared(table, tmp_path / "s")
    assert {(s.file, s.reason) for s in manifest.skipped} == {
        (f"x{k}.npy", f"it is neither a file nor a folder (row {k + 2}, `npy`)") for k in (3, 5)
    }

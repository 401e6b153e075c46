"""What a job would carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.cluster.upload import parcel_of


def fill(folder: Path, **sizes: int) -> None:
    for name, size in sizes.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)


def test_what_no_job_needs_stays_behind(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "pack").write_bytes(b"x" * 500)
    fill(tmp_path, study=10, package__module=5)
    (tmp_path / "studies" / "s").mkdir(parents=True)
    (tmp_path / "studies" / "s" / "best.safetensors").write_bytes(b"x" * 900)
    found = parcel_of(tmp_path)
    assert (found.files, found.size, found.largest) == (2, 15, "study")


def test_ignore_files_hold_in_their_own_folder_and_below(tmp_path: Path) -> None:
    fill(tmp_path, a__big=100, a__keep=50, b__big=3, wide=7)
    (tmp_path / "a" / ".rayignore").write_text("big\n")
    (tmp_path / ".gitignore").write_text("/wide\n")
    found = parcel_of(tmp_path)
    assert found.largest == "a"
    assert found.size == 50 + 3 + len("big\n") + len("/wide\n")


def test_a_folder_that_is_too_large_is_refused_with_the_reason_and_what_is_large(tmp_path: Path) -> None:
    fill(tmp_path, videos=3000, small=10)
    with pytest.raises(UserError, match="the head keeps it in memory") as caught:
        parcel_of(tmp_path, limit=1000).check(1000)
    assert "`videos`" in str(caught.value)
    assert ".rayignore" in str(caught.value)
    parcel_of(tmp_path, limit=4000).check(4000)


def test_counting_ends_where_the_answer_is_known(tmp_path: Path) -> None:
    fill(tmp_path, **{f"f{i:03}": 100 for i in range(100)})
    assert parcel_of(tmp_path, limit=100).files == 5


def test_a_folder_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be a folder"):
        parcel_of(tmp_path / "nowhere")

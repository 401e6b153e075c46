"""The short name of what source files say."""

from __future__ import annotations

import re
from pathlib import Path

from balance_tune.studies.protocol.code_hash import hash_of


def written(folder: Path, **texts: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return [folder / f"{name}.py" for name in texts]


def test_the_hash_is_of_names_and_content_wherever_the_files_lie(tmp_path: Path) -> None:
    here, there = written(tmp_path / "a", x="1", y="2"), written(tmp_path / "b", x="1", y="2")
    assert re.fullmatch("[0-9a-f]{12}", hash_of(here))
    assert hash_of(here) == hash_of(there)


def test_another_content_name_or_order_is_another_hash(tmp_path: Path) -> None:
    x, y = written(tmp_path / "a", x="1", y="2")
    hashes = {hash_of([x, y]), hash_of([y, x]), hash_of([x]), hash_of([])}
    hashes |= {hash_of(written(tmp_path / "b", x="1", y="3")), hash_of(written(tmp_path / "c", x="1", z="2"))}
    assert len(hashes) == 6


def test_what_moves_from_one_file_into_the_next_changes_the_hash(tmp_path: Path) -> None:
    assert hash_of(written(tmp_path / "a", x="12", y="3")) != hash_of(written(tmp_path / "b", x="1", y="23"))

"""What killed builders left is known by its name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from balance_tune.datasets import remains


@pytest.fixture(scope="module")
def dead() -> int:
    """A number that a process had which is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def named(folder: Path, pid: int, host: str) -> Path:
    made = remains.signature().replace(f"{os.getpid()}.", f"{pid}.", 1).replace(socket.gethostname(), host)
    path = folder / f".train-00000.arrow.{made}"
    path.touch()
    return path


def test_only_what_nobody_works_on_goes(tmp_path: Path, dead: int) -> None:
    here = socket.gethostname()
    gone = [named(tmp_path, dead, here), named(tmp_path, dead, f"not-{here}")]
    kept = [named(tmp_path, os.getpid(), here), named(tmp_path, dead, f"nor-{here}")]
    long_ago = time.time() - remains.ABANDONED - 60
    os.utime(gone[1], (long_ago, long_ago))
    for name in (f".a.{dead}.tmp", "train.arrow", ".lock"):
        kept.append(tmp_path / name)
        kept[-1].touch()
    remains.remove(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_folder_goes_with_what_is_in_it_and_other_prefixes_stay(tmp_path: Path, dead: int) -> None:
    here = f"{dead}.{'0' * 32}@{socket.gethostname()}.tmp"
    for prefix in (".a.", ".b."):
        (tmp_path / (prefix + here)).mkdir()
        (tmp_path / (prefix + here) / "half").touch()
    remains.remove(tmp_path, ".a.")
    assert [path.name for path in tmp_path.iterdir()] == [".b." + here]

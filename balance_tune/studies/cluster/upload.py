"""Measures the folder that a job uploads to a cluster, without what ignore files and a few fixed rules leave out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from balance_tune.errors import UserError
from balance_tune.studies.wording import shown

MIB = 2**20
LIMIT = 100 * MIB
"""Ray keeps what is sent in the head's memory and copies it to every node; its own limit ends in an opaque error."""

IGNORE_FILES = (".gitignore", ".rayignore")
NEVER = (
    ".git", ".venv", "venv", "__pycache__", "*.egg-info", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis",
    "node_modules", "mlruns", "mlartifacts", "mlflow.db*", "optuna.journal", "*.safetensors", "state.pt",
)  # fmt: skip


@dataclass(frozen=True)
class Parcel:
    """A folder as it would be sent: files, bytes before compression, and the entry of the folder that holds most."""

    folder: Path
    files: int
    size: int
    largest: str

    def check(self, limit: int = LIMIT) -> None:
        """Raise a one-line `UserError` where it is too large to be sent."""
        if self.size > limit:
            raise UserError(
                f"what a job carries must be at most {limit / MIB:.0f} MiB, because the head keeps it in memory and "
                f"every node gets a copy, but {self.folder} holds {'more than ' if self.size >= 4 * limit else ''}"
                f"{self.size / MIB:.0f} MiB, most of it in `{self.largest}`; name what is not needed in a .rayignore."
            )


def parcel_of(folder: Path, excludes: Sequence[str] = NEVER, limit: int = LIMIT) -> Parcel:
    """Measure a folder; ignore files of every folder in it hold, as they do for Ray.

    Counting ends at four times `limit`, so that a home folder is refused quickly.

    Raises:
        UserError: it is not a folder.
    """
    if not folder.is_dir():
        raise UserError(f"the working directory must be a folder, but got {shown(str(folder))}.")
    sizes: Counter[str] = Counter()
    files = 0
    for path in _files_to_send(folder, [(folder, GitIgnoreSpec.from_lines(excludes))]):
        files += 1
        sizes[path.relative_to(folder).parts[0]] += path.lstat().st_size
        if sizes.total() > 4 * limit:
            break
    largest = sizes.most_common(1)[0][0] if sizes else ""
    return Parcel(folder, files, sizes.total(), largest)


def _files_to_send(folder: Path, rules: list[tuple[Path, GitIgnoreSpec]]) -> Iterator[Path]:
    rules = [*rules, *_rules_in(folder)]
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:  # Ray fails on it with a message that names the file
        return
    for entry in entries:
        path, is_folder = Path(entry.path), entry.is_dir(follow_symlinks=False)
        if any(spec.match_file(_below(path, at, is_folder)) for at, spec in rules):
            continue
        if is_folder:
            yield from _files_to_send(path, rules)
        else:
            yield path


def _rules_in(folder: Path) -> Iterator[tuple[Path, GitIgnoreSpec]]:
    for name in IGNORE_FILES:
        if (folder / name).is_file():
            yield folder, GitIgnoreSpec.from_lines((folder / name).read_text(errors="replace").splitlines())


def _below(path: Path, folder: Path, is_folder: bool) -> str:
    relative = path.relative_to(folder).as_posix()
    return f"{relative}/" if is_folder else relative

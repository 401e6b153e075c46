"""Keeps a node's copy of a remote store: fetched once, checked against its manifest, shared by all processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from balance_tune.cache_folder import cache_folder
from balance_tune.datasets.address import bare
from balance_tune.datasets.manifest import Manifest, Shard
from balance_tune.datasets.place import Place, filesystem
from balance_tune.datasets.shards import sha256
from balance_tune.errors import UserError
from balance_tune.file_lock import FileLock

BLOCK = 2**23


def remote_manifest(uri: str) -> tuple[Manifest, bytes]:
    """Return the manifest of a remote store, and its bytes.

    Raises:
        UserError: there is none, or the place does not answer.
    """
    try:
        content = Place.of(uri).read("manifest.json")
        return Manifest.from_json(content.decode()), content
    except (OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"a store must have a manifest.json, but that of {bare(uri)} cannot be read ({reason})."
        ) from error
    except UserError as error:
        raise UserError(f"the store {bare(uri)} must be complete, but {error}.") from error


def cached(uri: str, parts: Sequence[str]) -> Path:
    """Return the folder of this node's copy, with these parts in it; what is missing is fetched now.

    Raises:
        UserError: the store cannot be read, or what comes is not what its manifest says.
    """
    manifest, content = remote_manifest(uri)
    folder = cache_folder() / f"{manifest.dataset}-{manifest.data_hash[:16]}"
    with _alone(folder):
        for part in parts:
            for shard in manifest.shards[part]:
                _fetch(uri, shard, folder)
        copy = folder / "manifest.json"
        if not copy.is_file() or copy.read_bytes() != content:
            Place(str(folder)).write("manifest.json", content)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process of this node at a time into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with path.open("w") as file, FileLock(file.fileno(), path):
        yield


def _fetch(uri: str, shard: Shard, folder: Path) -> None:
    path = folder / shard.file
    if path.is_file() and path.stat().st_size == shard.bytes:  # it was checked before it got this name
        return
    temporary = folder / f".{shard.file}.part"
    system, root = filesystem(uri)
    try:
        with system.open_input_stream(f"{root}/{shard.file}") as stream, temporary.open("wb") as file:
            while block := stream.read(BLOCK):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{bare(uri)}/{shard.file} must be readable, and {folder} writable, but: {reason}.") from error
    if sha256(temporary) != shard.sha256:
        temporary.unlink()
        raise UserError(
            f"{bare(uri)}/{shard.file} must be what its manifest says, but its SHA-256 is another; prepare it again."
        )
    temporary.replace(path)

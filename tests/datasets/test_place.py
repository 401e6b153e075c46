"""Stores that lie elsewhere than in a folder, on pyarrow's own pretended object store."""

import threading
from pathlib import Path
from typing import Any

import pytest

from balance_tune.datasets import cache, place, store
from balance_tune.datasets.crema_d import CremaD
from balance_tune.datasets.place import Place, is_remote
from balance_tune.datasets.store import open_store, read_manifest, verify_store
from balance_tune.errors import UserError
from balance_tune.testing.distributions import prepared

URI = "s3://bucket/data/crema_d"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make s3:// lie below a folder, reached through pyarrow as a real one is, and the node's cache beside it."""
    from pyarrow import fs

    root = tmp_path / "bucket"
    (root / "bucket/data/crema_d").mkdir(parents=True)

    def filesystem(uri: str) -> tuple[Any, str]:
        return fs.SubTreeFileSystem(str(root), fs.LocalFileSystem()), uri.removeprefix("s3://").rstrip("/")

    store._open.cache_clear()  # another test's store had the same address
    monkeypatch.setattr(place, "filesystem", filesystem)
    monkeypatch.setattr(cache, "filesystem", filesystem)
    monkeypatch.setenv("BALANCE_TUNE_CACHE", str(tmp_path / "cache"))
    return root / "bucket/data/crema_d"


@pytest.fixture
def remote(bucket: Path, tmp_path: Path) -> Path:
    CremaD().miniature(tmp_path / "source")
    prepared(CremaD(), tmp_path / "source", URI)  # type: ignore[arg-type]
    return bucket


def copies(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "cache").rglob("*.arrow"))


def test_a_store_at_a_uri_holds_the_bytes_of_a_local_one(remote: Path, tmp_path: Path) -> None:
    local = prepared(CremaD(), tmp_path / "source", tmp_path / "local")
    assert {p.name: p.read_bytes() for p in remote.iterdir()} == {p.name: p.read_bytes() for p in local.iterdir()}


def test_training_fetches_its_parts_once_and_never_the_test_part(remote: Path, tmp_path: Path) -> None:
    data = open_store(URI)
    assert set(data.parts) == {"train", "monitor", "val"}
    assert copies(tmp_path)
    assert not [name for name in copies(tmp_path) if name.startswith("test")]
    manifest = (remote / "manifest.json").read_bytes()
    for path in remote.iterdir():
        path.unlink()
    (remote / "manifest.json").write_bytes(manifest)
    again = cache.cached(URI, ("train", "val"))  # from the copy alone
    assert (again / "manifest.json").read_bytes() == manifest


def test_what_comes_over_the_wire_is_checked(remote: Path, tmp_path: Path) -> None:
    shard = next(remote.glob("val-*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"val-00000\.arrow must be what its manifest says"):
        open_store(URI)
    assert shard.name not in copies(tmp_path)


def test_processes_of_a_node_that_need_it_at_once_fetch_it_once(remote: Path, tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(cache.cached(URI, ("train",)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4


def test_a_remote_store_verifies(remote: Path) -> None:
    assert verify_store(URI) == read_manifest(URI)


def test_a_place_without_a_store_is_told(bucket: Path) -> None:
    with pytest.raises(UserError, match=r"that of s3://bucket/data/crema_d cannot be read"):
        open_store(URI)


def test_a_scheme_that_nothing_knows_is_told() -> None:
    with pytest.raises(UserError, match="a folder or a URI that pyarrow can open, but got ftp://host/x"):
        Place.of("ftp://host/x")


def test_folders_and_file_uris_are_local(tmp_path: Path) -> None:
    assert Place.of(tmp_path).local == Place.of(f"file://{tmp_path}").local == tmp_path
    assert not is_remote(f"file://{tmp_path}")
    assert is_remote("gs://bucket/x")

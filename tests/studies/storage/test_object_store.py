"""A local folder that stands for one in an object store, on a real S3 endpoint."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest

from balance_tune.datasets.address import bare
from balance_tune.errors import UserError
from balance_tune.studies.cluster.preflight import shared_place, try_storage
from balance_tune.studies.evaluation import unsealed
from balance_tune.studies.storage import durable, object_store
from balance_tune.studies.storage.root import root_folder
from tests.studies.bucket import SECRET, Bucket


def test_what_is_written_is_there_whole_and_what_is_there_is_fetched(bucket: Bucket) -> None:
    here, there = root_folder(bucket.uri, driver=True), root_folder(bucket.uri)
    assert here != there
    durable.write_json(here / "s" / "study.json", {"a": 1})
    assert bucket.json("s/study.json") == {"a": 1}
    (here / "s" / "big.bin").write_bytes(b"x" * 6_000_000)
    object_store.put(here / "s" / "big.bin")
    object_store.fetch(there / "s")
    assert (there / "s" / "big.bin").read_bytes() == b"x" * 6_000_000
    assert (there / "s" / "study.json").read_text() == (here / "s" / "study.json").read_text()
    assert object_store.studies_below(there) == []
    durable.write(here / "s" / "study.yaml", "name: s\n")
    assert object_store.studies_below(there) == ["s"]


def test_a_fetch_brings_what_changed_and_drops_what_is_gone_but_nothing_of_this_machine(bucket: Bucket) -> None:
    folder = root_folder(bucket.uri) / "s"
    for name in ("a/history.jsonl", "a/best.safetensors", "a/state.pt", "b/history.jsonl"):
        bucket.write(f"s/{name}", b"1")
    object_store.fetch(folder)
    assert found(folder) == ["a/history.jsonl", "b/history.jsonl"]
    object_store.fetch(folder / "a", lambda name: name == object_store.WEIGHTS)
    assert found(folder) == ["a/best.safetensors", "a/history.jsonl", "b/history.jsonl"]
    own = ("lock", "mlflow.queue", "mlflow.queue.sent", "ray.log.1", "ledger.jsonl", ".tune/run/x")
    for name in own:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
        object_store.put(folder / name)
    (folder / "a" / "test.json").write_text("of a study that had this name before")
    bucket.write("s/a/history.jsonl", b"1\n2\n")
    bucket.system.delete_file(f"{bucket.name}/studies/s/b/history.jsonl")
    object_store.fetch(folder)
    assert (folder / "a/history.jsonl").read_bytes() == b"1\n2\n"
    assert found(folder) == sorted(["a/best.safetensors", "a/history.jsonl", *own])
    assert not {key for key in bucket.objects("studies/s") if key in own}


def test_the_same_bytes_of_another_time_are_fetched_again(bucket: Bucket) -> None:
    folder = root_folder(bucket.uri) / "s"
    bucket.write("s/a.json", b"1")
    assert object_store.fetched(folder / "a.json").read_bytes() == b"1"
    (folder / "a.json").write_bytes(b"2")  # as long, but not of the store's time
    assert object_store.fetched(folder / "a.json").read_bytes() == b"1"
    assert not object_store.fetched(folder / "b.json").exists()


def test_no_object_is_fetched_to_outside_its_folder(bucket: Bucket, tmp_path: Path) -> None:
    folder = root_folder(bucket.uri) / "s"
    for key in ("../escaped", "a/../../../escaped", "/escaped", "a//escaped"):
        boto3.client("s3", endpoint_url=f"http://{bucket.endpoint}").put_object(
            Bucket=bucket.name, Key=f"studies/s/{key}", Body=b"x"
        )
    bucket.write("s/a/kept", b"x")
    object_store.fetch(folder)
    assert found(folder) == ["a/kept"]
    assert [path.name for path in tmp_path.rglob("escaped")] == []


def test_what_is_removed_is_removed_at_both_places_and_clearing_keeps_what_it_must(bucket: Bucket) -> None:
    folder = root_folder(bucket.uri) / "s"
    for name in ("study.yaml", "a/x", "a/b/y"):
        durable.write(folder / name, "1")
    assert [name for name in ("a/x", "a/z") if object_store.holding(folder)(folder / name)] == ["a/x"]
    object_store.remove(folder / "a" / "x")
    object_store.remove(folder / "a" / "x")
    assert bucket.objects("studies/s") == ["a/b/y", "study.yaml"]
    assert not (folder / "a" / "x").exists()
    object_store.clear(folder, keep=("study.yaml",))
    assert bucket.objects("studies/s") == ["study.yaml"]
    object_store.clear(folder)
    object_store.clear(folder)
    assert bucket.objects("studies/s") == []


def test_a_store_that_refuses_ends_in_one_kind_of_error_and_costs_its_patience_once(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root_folder(bucket.uri.replace(bucket.name, "no-such-bucket")) / "s"
    monkeypatch.setattr(object_store, "PATIENCE", 1.0)
    waited: list[float] = []
    monkeypatch.setattr(object_store.time, "sleep", waited.append)
    moments = iter(range(100))
    monkeypatch.setattr(object_store.time, "monotonic", lambda: next(moments) * 0.2)
    folder.mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(object_store.Away, match=r"^s3://no-such-bucket/studies does not answer as it must"):
            durable.write(folder / "a", "1")
    assert len(waited) >= 1
    once = len(waited)
    with pytest.raises(object_store.Away):
        object_store.put(folder / "a")
    assert len(waited) == once
    with pytest.raises(UserError, match="must be a place that can be written"):
        object_store.check(folder)
    assert (folder / "a").read_text() == "1"


def test_a_trial_works_in_a_new_folder_of_its_node_and_leaves_nothing(bucket: Bucket, tmp_path: Path) -> None:
    study = root_folder(bucket.uri, driver=True) / "s"
    config = {"folder": str(study / "trials" / "t"), "home": object_store.home(study / "trials" / "t")}
    with object_store.working_folder(config) as folder:
        object_store.fetch(folder)
        assert found(folder) == []
        (folder / object_store.STATE).write_bytes(b"state")
        object_store.put(folder / object_store.STATE)
        with object_store.working_folder(
            config
        ) as other:  # another attempt, perhaps while the first has not noticed its end
            object_store.fetch(other, lambda name: True)
            assert other != folder
            assert (other / object_store.STATE).read_bytes() == b"state"
    assert bucket.objects("studies/s/trials") == ["t/state.pt"]
    assert list((tmp_path / "cache" / "trials").iterdir()) == []
    with object_store.working_folder({"folder": str(tmp_path / "plain")}) as plain:
        assert plain == tmp_path / "plain"


def test_folders_that_killed_trials_left_are_removed_and_those_at_work_are_not(bucket: Bucket, tmp_path: Path) -> None:
    config = {"folder": "f", "home": (bucket.uri, "s/t")}
    left = tmp_path / "cache" / "trials" / "left"
    left.mkdir(parents=True)
    (left / "lock").touch()
    with object_store.working_folder(config) as at_work:
        for folder in (left, at_work.parent):
            os.utime(folder, (0, 0))
        with object_store.working_folder(config):
            assert not left.exists()
            assert at_work.is_dir()


def test_addresses_are_shown_without_what_may_be_secret(bucket: Bucket) -> None:
    assert bare("s3://me:key@host/a//b/?secret_key=1#x") == "s3://host/a/b"
    assert bare("/plain/a//b") == "/plain/a//b"
    assert object_store.joined("s3://b/p/?region=r", "s", "t") == "s3://b/p/s/t?region=r"
    folder = root_folder(bucket.uri) / "s"
    assert object_store.where(folder) == f"s3://{bucket.name}/studies/s"
    assert object_store.where(Path("/plain")) == "/plain"
    with pytest.raises(UserError, match="must not hold credentials") as caught:
        root_folder(f"s3://me:{SECRET}@{bucket.name}/p")
    assert SECRET not in str(caught.value)


def test_a_node_is_tried_by_an_object_that_it_writes_reads_and_deletes(bucket: Bucket) -> None:
    root = root_folder(bucket.uri)
    with shared_place(root) as (place, token):
        assert try_storage(place, token) == ""
        assert try_storage(place, "other") == f"another file lies under the same path ({bare(place)})"
        wrong = try_storage(place.replace(bucket.name, "no-such-bucket"), token)
        assert "no-such-bucket" in wrong
        assert "endpoint_override" not in wrong
        assert [key.rpartition("/")[2] for key in bucket.objects()] == ["driver"]
    assert bucket.objects() == []


def test_looks_at_sealed_parts_are_objects_of_their_own(bucket: Bucket) -> None:
    for look in ("one", "two"):
        unsealed.record(root_folder(bucket.uri), {"model": look})
    keys = [key for key in bucket.objects() if key.startswith("unsealed/")]
    assert sorted(bucket.json(key)["model"] for key in keys) == ["one", "two"]


def test_nothing_is_different_where_no_object_store_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "_system", None)
    assert root_folder(f"file://{tmp_path}") == root_folder(str(tmp_path)) == tmp_path
    durable.write(tmp_path / "a", "1")
    object_store.fetch(tmp_path)
    object_store.clear(tmp_path)
    assert object_store.fetched(tmp_path / "a").read_text() == "1"
    assert object_store.holding(tmp_path)(tmp_path / "a")
    assert object_store.published(tmp_path, "a") == str(tmp_path)
    assert object_store.home(tmp_path) is None
    object_store.remove(tmp_path / "a")
    object_store.remove(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def found(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

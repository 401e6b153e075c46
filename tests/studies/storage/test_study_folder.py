"""A study's folder on this machine, or in an object store with a working copy here (on a real S3 endpoint)."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from balance_tune.datasets.address import bare
from balance_tune.errors import UserError
from balance_tune.studies.cluster.preflight import shared_place, try_storage
from balance_tune.studies.storage import object_store, unsealed
from balance_tune.studies.storage.files import STATE, WEIGHTS
from balance_tune.studies.storage.object_store import StoreUnavailable
from balance_tune.studies.storage.study_folder import StudyFolder, root_folder, trial_folder
from tests.studies.bucket import SECRET, Bucket


def names(folder: StudyFolder) -> list[str]:
    return sorted(path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file())


def test_what_a_driver_writes_is_in_the_store_and_a_reader_downloads_it(bucket: Bucket) -> None:
    driver, reader = root_folder(bucket.uri, driver=True), root_folder(bucket.uri)
    assert driver.path != reader.path
    (driver / "s").write_json("study.json", {"a": 1})
    assert bucket.json("s/study.json") == {"a": 1}
    (driver / "s").path.joinpath("big.bin").write_bytes(b"x" * 6_000_000)
    (driver / "s").upload("big.bin")
    (reader / "s").download()
    assert (reader / "s").path.joinpath("big.bin").read_bytes() == b"x" * 6_000_000
    assert names(reader / "s") == ["big.bin", "study.json"]
    assert reader.studies() == []
    (driver / "s").write("study.yaml", "name: s\n")
    assert reader.studies() == ["s"]


def test_a_download_brings_what_changed_and_removes_what_is_gone_but_nothing_of_this_machine(bucket: Bucket) -> None:
    folder = root_folder(bucket.uri) / "s"
    for name in ("a/history.jsonl", "a/best.safetensors", "a/state.pt", "b/history.jsonl"):
        bucket.write(f"s/{name}", b"1")
    folder.download()
    assert names(folder) == ["a/history.jsonl", "b/history.jsonl"]
    (folder / "a").download(lambda name: name == WEIGHTS)
    assert names(folder) == ["a/best.safetensors", "a/history.jsonl", "b/history.jsonl"]
    local = ("lock", "lock.beat", "mlflow.sync", "mlflow.queue.sent", "ray.log.1", "ledger.jsonl", ".tune/run/x")
    for name in local:
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_text("mine")
        folder.upload(name)
    (folder.path / "a" / "test.json").write_text("of a study that had this name before")
    bucket.write("s/a/history.jsonl", b"1\n2\n")
    bucket.system.delete_file(f"{bucket.name}/studies/s/b/history.jsonl")
    folder.download()
    assert (folder.path / "a/history.jsonl").read_bytes() == b"1\n2\n"
    assert names(folder) == sorted(["a/best.safetensors", "a/history.jsonl", *local])
    assert not {key for key in bucket.objects("studies/s") if key in local}


def test_the_same_bytes_of_another_time_are_downloaded_again(bucket: Bucket) -> None:
    folder = root_folder(bucket.uri) / "s"
    bucket.write("s/a.json", b"1")
    assert folder.download_file("a.json").read_bytes() == b"1"
    (folder.path / "a.json").write_bytes(b"2")  # as long, but not of the store's time
    assert folder.download_file("a.json").read_bytes() == b"1"
    assert not folder.download_file("b.json").exists()
    bucket.system.delete_file(f"{bucket.name}/studies/s/a.json")
    assert not folder.download_file("a.json").exists()


def test_what_is_removed_is_removed_at_both_places_and_clearing_keeps_what_it_must(bucket: Bucket) -> None:
    folder = root_folder(bucket.uri) / "s"
    for name in ("study.yaml", "a/x", "a/b/y"):
        folder.write(name, "1")
    (folder.path / "a" / "z").write_text("never uploaded")
    assert folder.existing(["a/x", "a/z"]) == ["a/x"]
    folder.remove("a/x")
    folder.remove("a/x")
    assert bucket.objects("studies/s") == ["a/b/y", "study.yaml"]
    assert not (folder.path / "a" / "x").exists()
    folder.clear_store(keep=("study.yaml",))
    assert bucket.objects("studies/s") == ["study.yaml"]
    folder.clear_store()
    folder.clear_store()
    assert bucket.objects("studies/s") == []


def test_a_folder_is_uploaded_whole_with_the_file_that_readers_look_for_last(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = root_folder(bucket.uri) / "data"
    for name in ("manifest.json", "a.arrow", "z/b.arrow"):
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_text(name)
    written: list[str] = []
    assert folder.store is not None
    monkeypatch.setattr(folder.store, "write", lambda name, content: written.append(name))
    folder.upload_all(last="manifest.json")
    assert written == ["data/a.arrow", "data/z/b.arrow", "data/manifest.json"]


def test_a_file_that_a_store_refuses_stays_here(bucket: Bucket) -> None:
    folder = root_folder(bucket.uri.replace(bucket.name, "no-such-bucket")) / "s"
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"^s3://no-such-bucket/studies does not answer as it must"):
            folder.write("a", "1")
    assert (folder.path / "a").read_text() == "1"
    with pytest.raises(UserError, match="must be a place that can be written"):
        folder.check_writable()


def test_a_trial_works_in_a_new_folder_of_its_node_and_leaves_nothing(bucket: Bucket, tmp_path: Path) -> None:
    study = root_folder(bucket.uri, driver=True) / "s"
    trial = study / "trials" / "t"
    config = {"folder": str(trial.path), "location": trial.location}
    with trial_folder(config) as folder:
        folder.download()
        assert names(folder) == []
        (folder.path / STATE).write_bytes(b"state")
        folder.upload(STATE)
        with trial_folder(config) as other:  # another attempt, perhaps while the first has not noticed its end
            other.download(lambda name: True)
            assert other.path != folder.path
            assert (other.path / STATE).read_bytes() == b"state"
    assert bucket.objects("studies/s/trials") == ["t/state.pt"]
    assert list((tmp_path / "cache" / "trials").iterdir()) == []
    with trial_folder({"folder": str(tmp_path / "plain")}) as plain:
        assert plain == StudyFolder(tmp_path / "plain")


def test_folders_that_killed_trials_left_are_removed_and_those_at_work_are_not(bucket: Bucket, tmp_path: Path) -> None:
    config = {"folder": "f", "location": [bucket.uri, "s/t"]}  # as JSON has it
    dead = 2**22 + 1  # no process has so high a number
    left = tmp_path / "cache" / "trials" / f".trial.{dead}.{'0' * 32}@{platform.node()}.tmp"
    left.mkdir(parents=True)
    (left / STATE).write_text("half")
    with trial_folder(config) as at_work:
        assert not left.exists()
        os.utime(at_work.path, (0, 0))
        with trial_folder(config):
            assert at_work.path.is_dir()


def test_a_folder_is_found_again_by_its_location(bucket: Bucket, tmp_path: Path) -> None:
    root = root_folder(bucket.uri)
    folder = root / "s" / "trials"
    assert folder.location == (bucket.uri, "s/trials")
    assert StudyFolder.at(folder.path, folder.location) == folder
    assert folder.parent.parent == root
    assert folder.uri == bucket.uri.replace("/studies?", "/studies/s/trials?")
    assert folder.display_uri("t/test.json") == f"s3://{bucket.name}/studies/s/trials/t/test.json"
    plain = StudyFolder(tmp_path / "s")
    assert (plain.location, plain.uri, plain.display_uri("a")) == (None, str(tmp_path / "s"), str(tmp_path / "s" / "a"))
    assert StudyFolder.at(tmp_path / "s", None) == plain == StudyFolder.of(tmp_path / "s") == StudyFolder.of(plain)


def test_addresses_are_shown_without_what_may_be_secret(bucket: Bucket) -> None:
    assert bare("s3://me:key@host/a//b/?secret_key=1#x") == "s3://host/a/b"
    assert bare("/plain/a//b") == "/plain/a//b"
    with pytest.raises(UserError, match="must not hold credentials") as caught:
        root_folder(f"s3://me:{SECRET}@{bucket.name}/p")
    assert SECRET not in str(caught.value)
    with pytest.raises(UserError, match=r"given as text, s3://bucket/prefix"):
        root_folder("s3:/bucket/prefix")  # what a Path makes of it


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
    assert sorted(look["model"] for look in unsealed.looks_below(root_folder(bucket.uri))) == ["one", "two"]


def test_a_local_folder_needs_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "ObjectStore", None)
    folder = root_folder(f"file://{tmp_path}")
    assert folder == root_folder(str(tmp_path)) == StudyFolder(tmp_path)
    folder.check_writable()
    folder.write("a", "1")
    folder.download()
    folder.upload("a")
    folder.upload_all()
    folder.clear_store()
    assert folder.download_file("a").read_text() == "1"
    assert folder.existing(["a", "b"]) == ["a"]
    assert folder.studies() == []
    (folder / "s").write("study.yaml", "name: s\n")
    assert folder.studies() == ["s"]
    folder.remove("a")
    folder.remove("a")
    assert names(folder) == ["s/study.yaml"]


def test_a_root_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="must be a folder that can be written, but"):
        StudyFolder(tmp_path / "file").check_writable()

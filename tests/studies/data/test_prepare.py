import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from balance_tune.datasets import remains
from balance_tune.datasets.crema_d import CremaD, CremaDMlb
from balance_tune.datasets.manifest import Manifest
from balance_tune.datasets.place import Place
from balance_tune.datasets.preparation import PREPARING
from balance_tune.datasets.preparation_plan import plan_of
from balance_tune.datasets.store import read_manifest, verify_store
from balance_tune.errors import UserError
from balance_tune.studies.data.prepare import prepare

SMALL = 3 * 2**20  # bytes: four samples a shard


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crema_d")
    CremaD().miniature(folder)
    return folder


@pytest.fixture(scope="module")
def store(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "one"
    prepare(CremaD(), source, folder, shard_bytes=SMALL)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_workers_write_the_bytes_of_one(source: Path, store: Path, tmp_path: Path) -> None:
    prepare(CremaD(), source, tmp_path / "two", workers=2, shard_bytes=SMALL)
    assert content(tmp_path / "two") == content(store)
    assert len(read_manifest(store).shards["train"]) > 3


@pytest.mark.ray
def test_tasks_of_a_cluster_write_the_bytes_of_one_process(
    source: Path, store: Path, tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    prepare(CremaD(), source, tmp_path / "many", shard_bytes=SMALL)
    assert content(tmp_path / "many") == content(store)
    copy, clip = broken(source, tmp_path, gone)
    with pytest.raises(UserError, match=f"AudioWAV/{clip}"):
        prepare(CremaD(), copy, tmp_path / "lost", max_corrupt=0.0, shard_bytes=SMALL)


def test_a_killed_preparation_goes_on_and_ends_in_the_same_bytes(source: Path, store: Path, tmp_path: Path) -> None:
    code = f"""
import os, signal
from balance_tune.datasets.crema_d import CremaD
from balance_tune.studies.data.prepare import prepare
def advance(done, total, before):
    if done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
prepare(CremaD(), {str(source)!r}, {str(tmp_path / "out")!r}, shard_bytes={SMALL}, advance=advance)
"""
    died = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    said = died.communicate()[1]
    assert died.returncode == -signal.SIGKILL, said
    half = tmp_path / "out" / f".train-00000.arrow.{remains.signature()}".replace(str(os.getpid()), str(died.pid), 1)
    half.write_bytes(b"half")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert PREPARING in names
    assert "manifest.json" not in names
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        verify_store(tmp_path / "out")
    told: list[tuple[int, int, int]] = []
    prepare(CremaD(), source, tmp_path / "out", shard_bytes=SMALL, advance=lambda *numbers: told.append(numbers))
    total = told[0][1]
    assert told[0][0] == told[0][2] > total / 2
    assert told[-1][0] == total
    assert content(tmp_path / "out") == content(store)


def half_prepared(source: Path, out: Path) -> Path:
    """Begin a preparation and break it off in the middle; return `out`."""

    def stop(done: int, total: int, before: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(CremaD(), source, out, shard_bytes=SMALL, advance=stop)
    return out


def test_a_shard_that_was_cut_off_is_written_again(source: Path, store: Path, tmp_path: Path) -> None:
    out = half_prepared(source, tmp_path / "out")
    shard = out / "train-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:1000])
    prepare(CremaD(), source, out, shard_bytes=SMALL)
    assert content(out) == content(store)


def test_a_finished_store_is_returned_as_it_is(source: Path, store: Path) -> None:
    before = content(store)
    assert prepare(CremaD(), source, store) == read_manifest(store)
    assert content(store) == before


def test_what_else_lies_there_is_left_alone(source: Path, store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds another store, of crema_d-"):
        prepare(CremaDMlb(), source, store)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files \(thesis.tex\)"):
        prepare(CremaD(), source, tmp_path)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / PREPARING).write_text('{"dataset": "ave", "identity": "0"}')
    with pytest.raises(UserError, match=r"unfinished one of another source, recipe or version \(ave-0\)"):
        prepare(CremaD(), source, tmp_path / "begun")


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"shard": 3}'])
def test_what_is_known_of_a_shard_is_read_again_where_it_is_damaged(
    source: Path, store: Path, tmp_path: Path, damage: str
) -> None:
    out = half_prepared(source, tmp_path / "out")
    (out / "train-00000.arrow.json").write_text(damage)
    prepare(CremaD(), source, out, shard_bytes=SMALL)
    assert content(out) == content(store)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / PREPARING).write_text(damage)
    with pytest.raises(UserError, match=rf"unfinished one of another .*{PREPARING} is damaged"):
        prepare(CremaD(), source, tmp_path / "begun")


def test_a_full_disk_is_one_line(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Place.write

    def full(self: Place, name: str, content: bytes) -> None:
        if name == "manifest.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, name, content)

    monkeypatch.setattr(Place, "write", full)
    with pytest.raises(UserError, match="must be writable, but: No space left on device"):
        prepare(CremaD(), source, tmp_path / "out", shard_bytes=SMALL)


def broken(source: Path, tmp_path: Path, damage: Any) -> tuple[Path, str]:
    """A copy of the source (links), in which the sound or video of one training clip is damaged."""
    copy = tmp_path / "source"
    for path in source.rglob("*"):
        target = copy / path.relative_to(source)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    clip = CremaD().items(source)[0].sample
    damage(copy, clip)
    return copy, clip


def rewrite(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def silence(source: Path, clip: str) -> None:
    import numpy as np
    import soundfile

    path = source / "AudioWAV" / f"{clip}.wav"
    path.unlink()
    soundfile.write(path, np.zeros(16000), 16000)


def cut_sound(source: Path, clip: str) -> None:
    path = source / "AudioWAV" / f"{clip}.wav"
    rewrite(path, path.read_bytes()[:30])


def cut_video(source: Path, clip: str) -> None:
    path = source / "VideoFlash" / f"{clip}.flv"
    rewrite(path, path.read_bytes()[: path.stat().st_size // 3])


def no_bytes(source: Path, clip: str) -> None:
    rewrite(source / "VideoFlash" / f"{clip}.flv", b"")


def gone(source: Path, clip: str) -> None:
    (source / "AudioWAV" / f"{clip}.wav").unlink()


@pytest.mark.parametrize(
    ("damage", "file", "reason"),
    [
        (silence, "AudioWAV/{}.wav", "it is silent"),
        (cut_sound, "AudioWAV/{}.wav", "no readable sound file"),
        (cut_video, "VideoFlash/{}.flv", "it is cut off"),
        (no_bytes, "VideoFlash/{}.flv", "it has no bytes"),
        (gone, "AudioWAV/{}.wav", "it is missing"),
    ],
)
def test_a_broken_file_is_in_the_manifest_with_its_reason(
    source: Path, tmp_path: Path, damage: Any, file: str, reason: str
) -> None:
    copy, clip = broken(source, tmp_path, damage)
    manifest = prepare(CremaD(), copy, tmp_path / "out")
    (lost,) = manifest.skipped
    assert (lost.sample, lost.file) == (clip, file.format(clip))
    assert reason in lost.reason
    assert str(tmp_path) not in manifest.to_json()
    assert verify_store(tmp_path / "out") == manifest
    assert sum(manifest.rows(part) for part in manifest.shards) == len(CremaD().items(copy)) - 1


def test_too_many_broken_files_end_it_in_one_line_and_a_higher_share_goes_on(source: Path, tmp_path: Path) -> None:
    copy, _ = broken(source, tmp_path, gone)
    with pytest.raises(UserError, match=r"at most 1\.0% .* but 1 of 24 are \(4\.2%\), the first AudioWAV/") as caught:
        prepare(CremaD(), copy, tmp_path / "out", max_corrupt=0.01)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert len(prepare(CremaD(), copy, tmp_path / "out", max_corrupt=0.05).skipped) == 1


def test_a_clip_in_two_parts_is_told(source: Path, tmp_path: Path) -> None:
    def twice(copy: Path, clip: str) -> None:
        path = copy / "test.csv"
        rewrite(path, path.read_bytes() + f"{clip},NEU\n".encode())

    copy, clip = broken(source, tmp_path, twice)
    with pytest.raises(UserError, match=f"must be listed once, but `{clip}` is in train and test"):
        prepare(CremaD(), copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("", r"train\.csv must list clips as `clip,LABEL`, but has none"),
        ("1001_IEO_NEU_XX,HAPPY\n", r"one of NEU, HAP, SAD, FEA, DIS, ANG, but line 1 of .*train\.csv says `HAPPY`"),
        ("1001_IEO_NEU_XX\n", r"line 1 of .*train\.csv must be `clip,LABEL`"),
    ],
)
def test_a_wrong_list_is_one_line(source: Path, tmp_path: Path, csv: str, message: str) -> None:
    copy, _ = broken(source, tmp_path, lambda copy, clip: rewrite(copy / "train.csv", csv.encode()))
    with pytest.raises(UserError, match=message) as caught:
        plan_of(CremaD(), copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", b'"', b"\x00" * 50, b"a" * 200_000])
def test_a_list_that_is_no_text_is_one_line(source: Path, tmp_path: Path, content: bytes) -> None:
    copy, _ = broken(source, tmp_path, lambda copy, clip: rewrite(copy / "train.csv", content))
    with pytest.raises(UserError) as caught:
        prepare(CremaD(), copy, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_workers_and_shares_that_cannot_be_are_told(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="workers >= 1"):
        prepare(CremaD(), source, tmp_path, workers=0)
    with pytest.raises(UserError, match="0 <= max_corrupt <= 1"):
        prepare(CremaD(), source, tmp_path, max_corrupt=5)


def test_a_manifest_says_how_the_data_is_trained_on(store: Path) -> None:
    manifest: Manifest = read_manifest(store)
    assert manifest.recipe == CremaD.recipe
    assert manifest.counts["test"].keys() == set(CremaD.classes)

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from balance_tune.datasets import store
from balance_tune.datasets.base import Modality, Samples
from balance_tune.datasets.splits import PARTS, SplitRecipe
from balance_tune.datasets.store import build_store, open_store, sealed_test_part, store_name, verify_store
from balance_tune.errors import UserError
from tests.datasets.tiny import Tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / store_name(Tiny())
    build_store(Tiny(), folder)
    return folder


def test_a_store_is_five_files_and_nothing_is_left_beside_it(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "monitor.arrow",
        "test.arrow",
        "train.arrow",
        "val.arrow",
    ]
    assert list(folder.parent.iterdir()) == [folder]


def test_a_store_that_is_there_is_not_read_again(folder: Path) -> None:
    class Unreadable(Tiny):
        def read(self) -> Samples:
            raise AssertionError("was read")

    assert build_store(Unreadable(), folder).data_hash == build_store(Tiny(), folder).data_hash


def test_a_folder_with_another_store_is_left_alone(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=r"must be of tiny-\w+, but is of tiny-\w+; delete that folder"):
        build_store(Tiny(version=2), folder)
    assert (folder / "manifest.json").read_bytes() == before


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"manifest\.json cannot be read"):
        build_store(Tiny(), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_an_empty_folder_becomes_the_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    build_store(Tiny(), tmp_path / "store")
    assert len(open_store(tmp_path / "store").parts["train"]) == 20


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="must be a folder"):
        build_store(Tiny(), tmp_path / "file")


def test_of_two_builders_at_once_the_first_wins(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    class Slow(Tiny):
        def read(self) -> Samples:
            both.wait(timeout=30)
            return super().read()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: build_store(Slow(), tmp_path / "store"), range(2))
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    verify_store(tmp_path / "store")


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.write_shard

    def full(path: Path, *columns: Any) -> Any:
        if path.name == "test.arrow":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *columns)

    monkeypatch.setattr(store, "write_shard", full)
    with pytest.raises(UserError, match="must be writable, but: No space left on device"):
        build_store(Tiny(), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_remains_of_dead_builders_are_removed_and_living_ones_kept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host, some = socket.gethostname(), "0123456789abcdef" * 2
    remains = tmp_path / f".store.building.{dead.pid}.{some}@{host}.tmp"
    living = tmp_path / f".store.building.{os.getpid()}.{some}@{host}.tmp"
    elsewhere = tmp_path / f".store.building.{dead.pid}.{some}@not-{host}.tmp"
    for path in (remains, living, elsewhere):
        path.mkdir()
    build_store(Tiny(), tmp_path / "store")
    assert sorted(tmp_path.iterdir()) == sorted([living, elsewhere, tmp_path / "store"])


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="must be"):
        build_store(Tiny(), tmp_path / "file" / "store")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("audio"), "KeyError: 'audio'"),
        (ValueError("first line\nsecond line"), "ValueError: first line"),
        (OSError(errno.EACCES, "Permission denied"), "Permission denied"),
    ],
)
def test_whatever_a_users_read_raises_is_one_line(tmp_path: Path, error: Exception, message: str) -> None:
    class Broken(Tiny):
        def read(self) -> Samples:
            raise error

    with pytest.raises(UserError, match=message) as caught:
        build_store(Broken(), tmp_path / "store")
    assert "dataset `tiny` must be readable" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Tiny({"labels": np.full(40, 9)}), "from 0 to 1"),
        (Tiny({"groups": None}, split=SplitRecipe("group", 0.5, 0.1, 0.2, 0.2)), "needs `groups`"),
        (Tiny({"groups": np.zeros(40, dtype=int)}, split=SplitRecipe("group", 0.5, 0.1, 0.2, 0.2)), "needs a row"),
    ],
)
def test_data_that_cannot_be_split_builds_nothing(tmp_path: Path, dataset: Tiny, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_store(dataset, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_a_constant_feature_is_centred_and_not_blown_up(tmp_path: Path) -> None:
    a = np.random.default_rng(0).normal(size=(40, 3))
    a[:, 1] = 1e4 + 1e-9
    inputs = {"a": a, "b": Tiny().read().inputs["b"]}
    build_store(Tiny({"inputs": inputs}), tmp_path / "store")
    assert open_store(tmp_path / "store").parts["val"].inputs["a"][:, 1].abs().max() < 1e-2


def test_the_test_part_needs_unsealing_every_time(folder: Path) -> None:
    assert len(open_store(folder, ("test",), unseal=True).parts["test"]) == 8
    with pytest.raises(UserError, match=r"test part of tiny-\w+ is sealed"):
        open_store(folder, ("test",))


def test_within_a_trial_no_test_part_is_opened_and_processes_of_it_refuse_it_too(folder: Path) -> None:
    code = f"from balance_tune.datasets.store import open_store; open_store({str(folder)!r}, ('test',), unseal=True)"
    with sealed_test_part():
        with pytest.raises(UserError, match="a trial must not open the test part"), sealed_test_part():
            open_store(folder, ("test",), unseal=True)
        with pytest.raises(UserError, match="a trial must not open the test part"):
            open_store(folder, ("test",), unseal=True)
        assert len(open_store(folder).parts) == 3
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "a trial must not open the test part" in child.stderr
    assert len(open_store(folder, ("test",), unseal=True).parts["test"]) == 8


def test_training_never_touches_the_test_shard(folder: Path) -> None:
    (folder / "test.arrow").unlink()
    assert len(open_store(folder).parts) == 3


def test_an_unknown_part_is_told(folder: Path) -> None:
    with pytest.raises(UserError, match="train, monitor, val, test, but got `valid`"):
        open_store(folder, ("valid",))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [Path.unlink, truncate, empty, overwrite])
@pytest.mark.parametrize("file", ["manifest.json", "val.arrow"])
def test_a_damaged_store_says_what_to_do(folder: Path, file: str, damage: Callable[[Path], None]) -> None:
    damage(folder / file)
    with pytest.raises(UserError, match="delete that folder and run again") as caught:
        open_store(folder)
    assert file in str(caught.value) or "manifest" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="delete that folder"):
        verify_store(folder)


def test_a_missing_store_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest\.json cannot be read \(No such file"):
        open_store(tmp_path / "nowhere")


def test_an_incomplete_store_is_not_taken_for_a_finished_one(folder: Path) -> None:
    truncate(folder / "test.arrow")
    with pytest.raises(UserError, match=r"test\.arrow is missing or has another size"):
        build_store(Tiny(), folder)


def test_verifying_finds_a_single_changed_byte(folder: Path) -> None:
    verify_store(folder)
    content = bytearray((folder / "test.arrow").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "test.arrow").write_bytes(content)
    with pytest.raises(UserError, match=r"SHA-256 of test\.arrow"):
        verify_store(folder)


def test_verifying_does_not_trust_what_was_opened_before(folder: Path) -> None:
    open_store(folder, PARTS, unseal=True)
    (folder / "train.arrow").unlink()
    with pytest.raises(UserError, match=r"train\.arrow cannot be read"):
        verify_store(folder)


def test_verifying_finds_a_leak_between_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SplitRecipe, "assign", lambda self, *_: np.arange(40, dtype=np.int8) % 4)
    build_store(Tiny(split=SplitRecipe("group", 0.5, 0.1, 0.2, 0.2)), tmp_path / "store")
    with pytest.raises(UserError, match="a group must lie in one part, but group 0 lies in train, monitor, val, test"):
        verify_store(tmp_path / "store")


def test_opening_a_store_loads_none_of_the_readers(folder: Path) -> None:
    heavy = ("torchaudio", "torchvision", "soundfile", "scipy", "sklearn", "pandas", "ray", "optuna", "mlflow")
    code = f"""
import sys
from balance_tune.datasets.store import open_store
assert "torch" not in sys.modules and "pyarrow" not in sys.modules
open_store({str(folder)!r})
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_listing_the_datasets_loads_neither_torch_nor_pyarrow() -> None:
    code = """
import sys
from balance_tune.registry import datasets
names = datasets().names()
heavy = ("torch", "pyarrow", "torchaudio", "torchvision", "scipy", "soundfile", "av", "soxr", "cv2", "PIL", "pandas")
print({"av_digits", "crema_d"} <= set(names), [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True []", done.stderr


def test_types_of_the_source_stay_as_they_are_until_training(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 4)).astype(np.uint8)
    ids = np.arange(240).reshape(40, 6).astype(np.int32)
    modalities = {
        "image": Modality((3, 4, 4), "cnn", dtype="uint8", unit=1 / 255, normalise="train"),
        "words": Modality((6,), "text", dtype="int32", normalise=None),
    }
    tiny = Tiny({"inputs": {"image": pixels, "words": ids}}, modalities=modalities)
    build_store(tiny, tmp_path / "store")
    data = open_store(tmp_path / "store", PARTS, unseal=True)
    for part in data.parts.values():
        assert np.array_equal(part.inputs["image"].numpy(), pixels[part.rows.numpy()])
        assert np.array_equal(part.inputs["words"].numpy(), ids[part.rows.numpy()])
    train = pixels[data.parts["train"].rows.numpy()] / 255
    np.testing.assert_allclose(data.manifest.statistics["image"].mean, train.mean((0, 2, 3)))
    assert "words" not in data.manifest.statistics
    assert verify_store(tmp_path / "store") == data.manifest


@pytest.mark.parametrize(("task", "labels"), [("multilabel", [[0, 1]] * 40), ("regression", [[-1.5, 3.0]] * 40)])
def test_labels_may_be_several_or_quantities(tmp_path: Path, task: str, labels: list[list[float]]) -> None:
    build_store(Tiny({"labels": np.array(labels)}, task=task), tmp_path / "store")
    data = open_store(tmp_path / "store")
    part = data.parts["train"]
    assert part.labels.dtype == torch.float32
    assert part.labels.tolist() == np.array(labels)[part.rows.numpy()].tolist()
    assert data.manifest.counts["train"] == {"no": 0 if task == "multilabel" else 20, "yes": 20}
    assert verify_store(tmp_path / "store").task == task


def test_labels_that_do_not_fit_the_task_are_told(tmp_path: Path) -> None:
    for task, labels, message in (
        ("multilabel", np.full((40, 2), 0.5), "must be 0 or 1"),
        ("multilabel", np.zeros((40, 3)), r"shape \(samples, 2\)"),
        ("classes", np.zeros((40, 2)), "one class a sample"),
    ):
        with pytest.raises(UserError, match=message):
            build_store(Tiny({"labels": labels}, task=task), tmp_path / "store")

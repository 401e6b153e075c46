import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from balance_tune.datasets.mosei import Mosei, MoseiMlb, Mosi
from balance_tune.datasets.pickles import read_arrays
from balance_tune.datasets.preparation_plan import plan_of
from balance_tune.errors import UserError


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_execute_something_is_refused_and_executes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"train": Hostile()}, protocol))
    with pytest.raises(UserError, match=r"nothing to execute, but .* it asks for (posix|os)\.mkdir") as caught:
        read_arrays(tmp_path / "a.pkl")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("named", ["builtins eval", "builtins getattr", "numpy load", "subprocess Popen", "os system"])
def test_nothing_but_arrays_is_found(tmp_path: Path, named: str) -> None:
    module, name = named.split()
    (tmp_path / "a.pkl").write_bytes(f"c{module}\n{name}\n.".encode())
    with pytest.raises(UserError, match=f"it asks for {module}.{name}"):
        read_arrays(tmp_path / "a.pkl")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_numbers_text_and_bytes_are_read(tmp_path: Path, protocol: int) -> None:
    held = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "names": np.array([["a", "b"]]),
        "scalar": np.float64(2.5),
        "bytes": b"caf\xe9",
        "more": [1, 2.5, "text", None, (True,)],
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(held, protocol))
    read = read_arrays(tmp_path / "a.pkl")
    assert read["x"].tolist() == held["x"].tolist()  # type: ignore[attr-defined]
    assert (read["scalar"], read["bytes"], read["more"]) == (held["scalar"], held["bytes"], held["more"])
    assert read["names"].tolist() == [["a", "b"]]


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"\x80\x04]", b"not a pickle", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f"]
)
def test_a_damaged_pickle_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read") as caught:
        read_arrays(tmp_path / "a.pkl")
    assert "\n" not in str(caught.value)


def rewritten(folder: Path, change: Any) -> None:
    path = folder / Mosei.file
    held = read_arrays(path)
    change(held)
    path.write_bytes(pickle.dumps(held))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held.pop("valid"), "must hold train, valid, test, but `valid` is not in it"),
        (
            lambda held: held["test"].update(audio=np.zeros((12, 50, 73))),
            r"shape \(12, 50, 74\), but got shape \(12, 50, 73\)",
        ),
        (lambda held: held["train"].update(labels=np.full((48, 1, 1), 9.0)), "from -3 to 3"),
        (lambda held: held["train"].update(labels=np.zeros((48, 2))), "one number a sentence"),
    ],
)
def test_another_file_than_the_published_one_is_told(tmp_path: Path, change: Any, message: str) -> None:
    Mosei().miniature(tmp_path)
    rewritten(tmp_path, change)
    with pytest.raises(UserError, match=message) as caught:
        plan_of(Mosei(), tmp_path)
    assert "\n" not in str(caught.value)


def test_sentiment_is_a_class_or_a_number(tmp_path: Path) -> None:
    Mosei().miniature(tmp_path)
    classes, numbers = Mosei().items(tmp_path), MoseiMlb().items(tmp_path)
    for one, other in zip(classes, numbers, strict=True):
        assert isinstance(other.label, tuple)
        assert one.label == int(other.label[0] >= 0)
    assert (Mosei().label(0.0), Mosei().label(-0.1)) == (1, 0)


def test_values_that_are_not_finite_count_as_zero(tmp_path: Path) -> None:
    Mosi().miniature(tmp_path)
    item = Mosi().items(tmp_path)[0]
    assert read_arrays(tmp_path / Mosi.file)["train"]["audio"][0, 0, 0] == -np.inf
    assert Mosi().load(tmp_path, item)["audio"][0, 0] == 0

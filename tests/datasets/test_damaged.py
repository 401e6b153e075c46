"""Damaged files, whatever the damage: a sample, or one line; never a traceback, and nothing is executed."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from balance_tune.datasets.av_digits import AvDigits
from balance_tune.datasets.parquet import ParquetDataset
from balance_tune.datasets.pickles import read_arrays
from balance_tune.datasets.store import build_store, open_store, store_name, verify_store
from balance_tune.errors import UserError
from balance_tune.registry import datasets
from tests.datasets.forging_tables import video
from tests.datasets.tiny import Tiny

EXAMPLES = int(os.environ.get("BALANCE_TUNE_FUZZ", "60"))  # of each file type
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Some bytes changed, a part cut out or doubled, the end missing, or something else entirely."""
    kind = draw(st.sampled_from(["bytes", "cut", "double", "end", "other"]))
    where, size = draw(st.floats(0, 1)), draw(st.integers(1, 64))
    junk = draw(st.binary(min_size=1, max_size=8))

    def damage(content: bytes) -> bytes:
        at = int(where * len(content))
        return {
            "bytes": content[:at] + junk + content[at + len(junk) :],
            "cut": content[:at] + content[at + size :],
            "double": content[:at] + content[at : at + size] * 2 + content[at + size :],
            "end": content[:at],
            "other": junk,
        }[kind]

    return damage


@contextmanager
def one_line_at_most() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        told = str(error)
    else:
        return
    assert told
    assert len(told.splitlines()) == 1, told


def tone(kind: str) -> bytes:
    file = io.BytesIO()
    wave = np.sin(np.arange(4000) / 5).astype(np.float32)
    soundfile.write(file, wave, 8000, format=kind)
    return file.getvalue()


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28)).save(file, "PNG")
    return file.getvalue()


def jpg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)).save(file, "JPEG")
    return file.getvalue()


SOURCES = {  # dataset, modality, a file
    "flac": ("av_digits", "audio", tone("FLAC")),
    "wav": ("av_digits", "audio", tone("WAV")),
    "png": ("av_digits", "image", png()),
    "jpg": ("crema_d", "visual", jpg()),
    "mp4": ("kinetics_sounds", "visual", video()),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_an_undamaged_file_is_a_sample(kind: str) -> None:
    name, modality, content = SOURCES[kind]
    assert np.isfinite(datasets().get(name)().decode(modality, content)).all()


@pytest.mark.parametrize("kind", SOURCES)
@fuzzed
@given(damage=damages())
def test_a_damaged_recording_or_picture_is_a_sample_or_one_line(kind: str, damage: Callable[[bytes], bytes]) -> None:
    name, modality, content = SOURCES[kind]
    dataset = datasets().get(name)()
    with one_line_at_most():
        decoded = dataset.decode(modality, damage(content))
        assert decoded.shape == dataset.modalities[modality].stored
        assert np.isfinite(decoded).all()


HELD = {
    "x": np.arange(60, dtype=np.float32).reshape(20, 3),
    "names": np.array(["a", "b"]),
    "more": [1, "two", b"three"],
}


@pytest.mark.parametrize("protocol", [2, 4])
@fuzzed
@given(damage=damages())
def test_a_damaged_pickle_holds_arrays_or_is_one_line(
    protocol: int, damage: Callable[[bytes], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("k") / "arrays.pkl"
    path.write_bytes(damage(pickle.dumps(HELD, protocol)))
    with one_line_at_most():
        read_arrays(path)


@fuzzed
@given(damage=damages())
def test_a_damaged_parquet_file_is_a_table_or_one_line(
    damage: Callable[[bytes], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = pa.BufferOutputStream()
    parquet.write_table(pa.table({"x": [[1.0, 2.0]] * 50, "label": list(range(50))}), file)
    path = tmp_path_factory.mktemp("p") / "t.parquet"
    path.write_bytes(damage(file.getvalue().to_pybytes()))

    class Given(ParquetDataset):
        name = ""
        read: Any = None

    Given.path = path
    Given.__abstractmethods__ = frozenset()
    with one_line_at_most():
        Given().columns(["x", "label"])


@pytest.mark.parametrize("name", ["train.arrow", "val.arrow", "manifest.json"])
@fuzzed
@given(damage=damages())
def test_a_damaged_store_opens_or_ends_in_one_line_and_does_not_pass_for_whole(
    name: str, damage: Callable[[bytes], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("s") / store_name(Tiny())
    build_store(Tiny(), folder)
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(damage(before))
    with one_line_at_most():
        open_store(folder)
    if (folder / name).read_bytes() == before or name == "manifest.json":
        return
    with pytest.raises(UserError, match=r"damaged|SHA-256"):
        verify_store(folder)


def test_a_picture_of_another_size_is_one_line(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((5, 5), dtype=np.uint8)).save(file, "PNG")
    with pytest.raises(UserError, match="shape"):
        AvDigits().decode("image", file.getvalue())

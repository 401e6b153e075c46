"""Files made to break their reader: a value or one line, the reading process lives on, and memory stays bounded."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from balance_tune.datasets import limits, pickles, pictures, sounds, videos
from balance_tune.datasets.arrays import load_array
from balance_tune.datasets.av_digits import AvDigits
from balance_tune.datasets.decoding import Unreadable
from balance_tune.datasets.mosei import Mosei
from balance_tune.datasets.pickles import read_arrays
from balance_tune.datasets.preparation_plan import plan_of
from balance_tune.errors import UserError
from tests.datasets import forging
from tests.datasets.forging_tables import video
from tests.datasets.read_forged import READERS
from tests.datasets.test_mosei import rewritten

FILES = int(os.environ.get("BALANCE_TUNE_FORGED", "40"))  # of each kind
GIB = 2**30


def read_forged(kind: str, count: int, seed: int) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.datasets.read_forged", kind, str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


@pytest.mark.parametrize("kind", READERS)
def test_forged_files_are_values_or_one_line_and_take_little_memory(kind: str) -> None:
    counts = read_forged(kind, FILES, seed=100_000)
    assert counts["read"] + counts["refused"] == FILES
    assert counts["read"]
    assert counts["refused"]
    assert counts["peak"] - counts["base"] < GIB


@pytest.mark.full
@pytest.mark.parametrize("kind", READERS)
def test_two_thousand_forged_files_of_each_kind(kind: str) -> None:
    counts = read_forged(kind, 2000, seed=0)
    assert counts["read"] + counts["refused"] == 2000
    assert counts["peak"] - counts["base"] < GIB


# pickles -------------------------------------------------------------------------------------------------------
def test_an_array_of_objects_from_bytes_is_refused(tmp_path: Path) -> None:
    """The bytes would be taken for pointers: numpy's own reader dies by a segmentation fault."""
    content = b"\x80\x02" + forging.called(
        "numpy._core.numeric._frombuffer",
        forging.data(b"A" * 16),
        forging.called("numpy.dtype", forging.text("O8"), b"\x89", b"\x88"),
        b"(" + forging.number(2) + b"t",
        forging.text("C"),
    )
    (tmp_path / "a.pkl").write_bytes(content + b".")
    with pytest.raises(UserError, match="array of objects that are not all there"):
        read_arrays(tmp_path / "a.pkl")


def test_a_key_nested_so_deep_that_the_reader_dies_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}(" + b")" + b"\x85" * 1_000_000 + b"Nu.")
    with pytest.raises(UserError, match="its reader was ended by SIGSEGV; nothing of it was executed") as caught:
        read_arrays(tmp_path / "a.pkl")
    assert "\n" not in str(caught.value)


def test_a_pickle_that_takes_all_memory_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".")
    with pytest.raises(UserError, match="MemoryError"):
        read_arrays(tmp_path / "a.pkl")


def test_a_pickle_that_takes_too_long_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "SECONDS", 1)
    keys = b"".join(forging.number(n * (2**61 - 1)) + b"N" for n in range(1, 40_000))  # all of one hash
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}(" + keys + b"u.")
    with pytest.raises(UserError, match="reading it takes too long"):
        read_arrays(tmp_path / "a.pkl")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "<i2", "|b1", "<U3", ">U2", "|S4", "|u1", "<f2"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_arrays_come_out_as_they_went_in(tmp_path: Path, kind: str, order: Any, protocol: int) -> None:
    array = np.array([[0, 1, 2], [1, 0, 7]]).astype(kind, order=order)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([array, array, array[:0]], protocol))
    first, second, none = read_arrays(tmp_path / "a.pkl")
    assert first.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(first, array)
    assert second is first
    assert none.shape == (0, 3)


def test_arrays_of_objects_are_lists_of_their_values(tmp_path: Path) -> None:
    names = np.array([["a", b"b"], ["c", 5]], dtype=object)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(names))
    assert read_arrays(tmp_path / "a.pkl") == [["a", b"b"], ["c", 5]]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["one"], "`id` of train in .* must name each of its 48 sentences"),
        (5.0, "`id` of train in .* must name each of its 48 sentences"),
        ([{"a": 1}] * 48, "an `id` must begin with the name of a video"),
        ([[None]] * 48, "an `id` must begin with the name of a video"),
        ([[]] * 48, "an `id` must begin with the name of a video"),
    ],
)
def test_names_of_videos_are_not_trusted(tmp_path: Path, ids: Any, message: str) -> None:
    Mosei().miniature(tmp_path)
    rewritten(tmp_path, lambda held: held["train"].update(id=ids))
    with pytest.raises(UserError, match=message):
        plan_of(Mosei(), tmp_path)


# limits --------------------------------------------------------------------------------------------------------
def png(width: int, height: int) -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 100))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in [*chunks, (b"IEND", b"")]
    )


def test_a_picture_of_400_million_pixels_is_one_line() -> None:
    with pytest.raises(UserError, match=r"20000 x 20000: 400,000,000 pixels, more than 50,000,000 \(BALANCE_TUNE_MAX"):
        AvDigits().decode("image", png(20000, 20000))
    with pytest.raises(Unreadable, match="400000000 pixels"):  # Pillow's own limit
        pictures.picture(png(20000, 20000))
    with pytest.raises(
        Unreadable, match=r"8000 x 8000: 64,000,000 pixels, more than 50,000,000 \(BALANCE_TUNE_MAX_PIXE"
    ):
        pictures.picture(png(8000, 8000))


def flac(samples: int, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.tile(np.float32([0.1, -0.1]), samples // 2), rate, format="FLAC")
    return file.getvalue()


def test_a_sound_of_hours_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    long = flac(1_300_000, 1000)
    with pytest.raises(Unreadable, match=r"it lasts 1,300 seconds, more than 1,200 \(BALANCE_TUNE_MAX_SECONDS"):
        sounds.sound(long, 1000)
    with pytest.raises(UserError, match="it lasts 1,300 seconds"):
        AvDigits().decode("audio", long)
    monkeypatch.setenv("BALANCE_TUNE_MAX_SECONDS", "1301")
    assert len(sounds.sound(long, 1000)) == 1_300_000
    monkeypatch.setenv("BALANCE_TUNE_MAX_BYTES", "5_000_000")
    with pytest.raises(Unreadable, match="its sound takes 5,200,000 bytes, more than 5,000,000"):
        sounds.sound(long, 1000)


def test_a_video_is_decoded_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(videos.middles(video(), 3)) == 3
    for name, value, message in [
        ("PIXELS", "1000", "48 x 32: 1,536 pixels, more than 1,000"),
        ("SECONDS", "1", "it lasts 2 seconds, more than 1 "),
        ("FRAMES", "5", "it has 6 frames, more than 5"),
        ("BYTES", "5000", "what is decoded of it takes 9,216 bytes, more than 5,000"),
    ]:
        with monkeypatch.context() as patch:
            patch.setenv(f"BALANCE_TUNE_MAX_{name}", value)
            with pytest.raises(Unreadable, match=message):
                videos.middles(video(), 3)


@pytest.mark.parametrize("value", ["many", "0", "-5", "nan", "inf", ""])
def test_a_limit_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BALANCE_TUNE_MAX_PIXELS", value)
    with pytest.raises(UserError, match=f"BALANCE_TUNE_MAX_PIXELS must be a number of at least 1, but is `{value}`"):
        pictures.picture(png(10, 10))


def test_limits_are_numbers_of_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCE_TUNE_MAX_FRAMES", "2e6")
    assert limits.limit("FRAMES") == 2_000_000
    assert limits.limit("SECONDS") == limits.DEFAULTS["SECONDS"]


def test_a_picture_that_would_start_a_program_is_no_picture() -> None:
    with pytest.raises(Unreadable, match="cannot identify image file"):
        pictures.picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")


# arrays of tables ----------------------------------------------------------------------------------------------
def npy(descr: str, shape: str, content: bytes) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("'<f4'", "(4,)", bytes(12)), "its header says 16 bytes, and 12 follow"),
        (npy("'<f4'", "(1000000000000,)", bytes(12)), "more than 536,870,912"),
        (npy("'|O'", "(1,)", pickle.dumps([1])), "it holds values of type object"),
        (npy("'<f4'", "(", b""), "its header is none"),
        (b"PK\x03\x04", "magic string"),
    ],
)
def test_an_array_file_whose_header_lies_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    for file in (content, tmp_path / "x.npy"):
        with pytest.raises(ValueError, match=message):
            load_array(file)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_file_is_read_as_it_was_written(tmp_path: Path, order: Any) -> None:
    array = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
    np.save(tmp_path / "x.npy", array)
    np.testing.assert_array_equal(load_array(tmp_path / "x.npy"), array)

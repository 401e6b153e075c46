"""A file that a user sends is the row that preparation made of it, for every real dataset; and what is no such file."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch

from balance_tune.datasets.columns import KINDS
from balance_tune.datasets.decoding import Decoding
from balance_tune.datasets.distribution import Distribution, Item
from balance_tune.datasets.mosei import Mosei
from balance_tune.datasets.pickles import read_arrays
from balance_tune.datasets.sounds import sound
from balance_tune.datasets.store import open_store
from balance_tune.datasets.stored import decoding, stored
from balance_tune.datasets.table import Table
from balance_tune.errors import UserError
from balance_tune.registry import datasets
from balance_tune.testing.distributions import prepared
from tests.datasets.prepared import miniature
from tests.datasets.test_table import RECIPE, table

__all__ = ["table"]  # a fixture

Raws = dict[str, Any]


def file_each(source: Path, item: Item, dataset: Distribution) -> Raws:
    """The files of an item, one a modality, or one for all."""
    files = [(source / file).read_bytes() for file in item.files]
    files = files if len(files) == len(dataset.modalities) else files[:1] * len(dataset.modalities)
    return dict(zip(dataset.modalities, files, strict=True))


def event(source: Path, item: Item, dataset: Distribution) -> Raws:
    start, end = item.more
    return {m: {"file": file, "start": start, "end": end} for m, file in file_each(source, item, dataset).items()}


def picture_and_title(source: Path, item: Item, dataset: Distribution) -> Raws:
    return {"image": (source / item.files[0]).read_bytes(), "text": f"RT {item.more[0]}# https://a.example/b"}


@lru_cache
def _pickle(path: Path) -> Any:
    return read_arrays(path)


def features(source: Path, item: Item, dataset: Distribution) -> Raws:
    split, row = item.more
    held = _pickle(source / item.files[0])[split]
    return {"audio": held["audio"][row], "visual": held["vision"][row].tolist(), "text": held["text"][row]}


RAW: dict[str, Callable[[Path, Item, Distribution], Raws]] = {
    **dict.fromkeys(("crema_d", "crema_d_balance", "crema_d_mlb", "kinetics_sounds", "vggsound"), file_each),
    **dict.fromkeys(("ucf101", "ucf101_av"), file_each),
    **dict.fromkeys(("ave", "ave_ogm"), event),
    **dict.fromkeys(("mosei", "mosei_mlb", "mosi", "mosi_mlb"), features),
    "food101": picture_and_title,
}
OURS = [
    name
    for name, cls in datasets().classes().items()
    if issubclass(cls, Distribution) and cls.__module__.startswith("balance_tune.")
]


@pytest.mark.parametrize("name", OURS)
def test_a_raw_sample_is_the_row_that_preparation_made_of_it(name: str, tmp_path: Path) -> None:
    dataset, source, data = miniature(name, tmp_path)
    items = dataset.items(source)
    for part in ("train", "test"):
        rows = torch.tensor([0, len(data.parts[part]) - 1])
        for k, row in enumerate(data.parts[part].rows[rows].tolist()):
            raw = RAW[name](source, items[row], dataset)
            assert list(raw) == list(dataset.modalities)
            for modality, value in raw.items():
                kept = data.parts[part].take(modality, rows)[k].numpy()
                np.testing.assert_array_equal(dataset.decode(modality, value), kept.astype(np.float32))
                np.testing.assert_array_equal(dataset.decode(modality, kept), kept.astype(np.float32))


@pytest.mark.parametrize(("name", "rate"), [("crema_d", 22050), ("crema_d_balance", 16000)])
def test_a_waveform_is_heard_as_its_file_is(name: str, rate: int, tmp_path: Path) -> None:
    dataset: Any = datasets().get(name)()
    dataset.miniature(tmp_path)
    file = tmp_path / dataset.items(tmp_path)[0].files[0]
    from_file = dataset.decode("audio", file.read_bytes())
    np.testing.assert_array_equal(dataset.decode("audio", sound(file, rate)), from_file)
    np.testing.assert_array_equal(dataset.decode("audio", sound(file, rate).tolist()), from_file)


@pytest.mark.parametrize("name", ["crema_d", "ave", "kinetics_sounds", "vggsound", "ucf101", "ucf101_av"])
def test_frames_may_come_as_pictures_and_the_last_is_repeated(name: str, tmp_path: Path) -> None:
    from balance_tune.datasets.miniature import write_picture

    dataset: Any = datasets().get(name)()
    files = []
    for k in range(2):
        write_picture(tmp_path / f"{k}.jpg", np.full((48, 64, 3), 60 + 100 * k, dtype=np.uint8))
        files.append((tmp_path / f"{k}.jpg").read_bytes())
    seen = dataset.decode("visual", files)
    assert seen.shape == dataset.modalities["visual"].stored
    assert seen[:, 0].mean() == pytest.approx(60, abs=2)
    assert seen[:, 1:].mean() == pytest.approx(160, abs=2)
    assert dataset.decode("visual", files[1])[:, 0].mean() == pytest.approx(160, abs=2)


def test_an_event_is_the_whole_file_where_nothing_else_is_said(tmp_path: Path) -> None:
    dataset: Any = datasets().get("ave")()
    dataset.miniature(tmp_path)
    file = (tmp_path / dataset.items(tmp_path)[0].files[0]).read_bytes()
    whole = {"file": file, "start": 0, "end": 4.0}
    np.testing.assert_array_equal(dataset.decode("visual", file), dataset.decode("visual", whole))


def test_published_flow_is_decoded_from_the_pictures_of_its_axes(tmp_path: Path) -> None:
    from balance_tune.datasets.miniature import write_picture

    dataset: Any = datasets().get("ucf101")()
    axes = {}
    for axis, grey in (("u", 90), ("v", 140)):
        path = tmp_path / f"{axis}.jpg"
        write_picture(path, np.full((48, 64, 3), grey, dtype=np.uint8))
        axes[axis] = [path.read_bytes()] * 8
    moved = dataset.decode("flow", axes)
    assert [round(float(axis.mean())) for axis in moved] == [90, 140]


@pytest.mark.parametrize("where", ["store", "model"])
def test_a_users_table_decodes_as_it_was_prepared(where: str, table: Path, tmp_path: Path) -> None:
    out = prepared(Table({**RECIPE, "name": "songbirds"}, table), table.parent, tmp_path / "birds")
    data = open_store(out)
    dataset: Decoding = stored("songbirds", str(out))()
    if where == "model":  # which has the manifest's words, not the store
        dataset = decoding("songbirds", data.manifest.raw, data.manifest.modalities)
    part, source = data.parts["train"], table.parent
    row = int(part.rows[0])
    name = f"b{row:02d}"
    raw = {
        m: (source / f"{name}.{end}").read_bytes() for m, end in (("song", "wav"), ("image", "jpg"), ("clip", "mp4"))
    }
    raw |= {"note": f"a {('owl', 'wren')[row % 2]}, no. {row}", "weather": [row, 2 * row]}  # type: ignore[dict-item]
    raw["embedding"] = (source / f"{name}.npy").read_bytes()
    assert {entry["kind"] for entry in RECIPE["modalities"].values()} | {"filter_bank"} == set(KINDS)
    for modality, value in raw.items():
        kept = part.take(modality, torch.tensor([0]))[0].numpy().astype(np.float32)
        np.testing.assert_array_equal(dataset.decode(modality, value), kept)
    wave, _ = soundfile.read(source / f"{name}.wav", dtype="float32")
    np.testing.assert_array_equal(dataset.decode("song", wave), dataset.decode("song", raw["song"]))


def mute_video(path: Path) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "modality", "raw", "said"),
    [
        ("crema_d", "audio", b"", "the file: it cannot be decoded"),
        ("crema_d", "audio", b"RIFF\0\0\0\0WAVEfmt", "it is no readable sound file"),
        ("crema_d", "audio", np.zeros(800, dtype=np.float32), "it is silent"),
        ("crema_d", "audio", [0.5, float("nan")], "not finite"),
        ("crema_d", "visual", b"\xff\xd8\xff\xe0 cut off", "no readable image"),
        ("crema_d", "visual", [], "shape"),
        ("crema_d", "visual", np.zeros(7), "shape"),
        ("crema_d", "visual", "a.jpg", "of type str"),
        ("ucf101", "flow", [b"\xff\xd8\xff"], "a video is one file"),
        ("ucf101", "flow", {"u": [b""]}, "u and v"),
        ("ave", "audio", {"file": b""}, "an event is"),
        ("ave", "audio", {"file": b"", "start": 3, "end": 1}, "0 <= start < end"),
        ("kinetics_sounds", "audio", "MUTE", "it has no sound track"),
        ("food101", "text", b"cake", "a title is words"),
        ("food101", "image", {"file": b""}, "type dict"),
        ("mosei", "audio", b"1 2 3", "decodes no files"),
        ("mosei", "audio", [[1.0], [1.0, 2.0]], "must be numbers"),
        ("mosei", "audio", np.zeros((50, 73)), "shape"),
    ],
)
def test_what_is_no_such_file_is_one_line(name: str, modality: str, raw: Any, said: str, tmp_path: Path) -> None:
    raw = mute_video(tmp_path / "a.mp4") if isinstance(raw, str) and raw == "MUTE" else raw
    with pytest.raises(UserError, match=said) as caught:
        datasets().get(name)().decode(modality, raw)
    assert "\n" not in str(caught.value)


def test_features_that_are_not_finite_count_as_zero_as_in_preparation() -> None:
    x = np.ones((50, 74), dtype=np.float32)
    x[3, 4] = -np.inf
    found = Mosei().decode("audio", x)
    assert (found[3, 4], found.sum()) == (0, x.size - 1)

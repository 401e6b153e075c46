"""Forged tables, videos and weights: valid ones whose headers lie. `read_forged.py` reads them."""

from __future__ import annotations

import io
import random
import unittest.mock
from pathlib import Path
from typing import Any

import numpy as np

from balance_tune.datasets import parquet_file
from tests.datasets.forging import Forge, Read, called, scrambled, size_of, text


# tables --------------------------------------------------------------------------------------------------------
def forged_parquet(r: random.Random) -> bytes:
    """Return a table with text, files and numbers, now and then one that unpacks to a thousand times its size."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = r.choice([1, 5, 40])
    columns: dict[str, Any] = {
        "y": pa.array(["cat", "dog"] * rows).dictionary_encode() if r.random() < 0.5 else ["cat", "dog"] * rows,
        "image": [{"bytes": r.randbytes(20), "path": "1.png"}, {"bytes": None, "path": "2.png"}] * rows,
        "raw": [b"abc", None] * rows,
        "v": [[1.5, 2.0], None] * rows,
        "n": [1.0, float("nan")] * rows,
        "tags": [["a", "b"], []] * rows,
    }
    groups = r.choice([1, 7, 1000])
    if r.random() < 0.1:
        groups = 4000
        where = pa.array([0, 1] * 2000, pa.int32())
        columns = {"y": pa.DictionaryArray.from_arrays(where, ["x" * 500_000, "y"])}
    file = io.BytesIO()
    compression = r.choice(["none", "snappy", "zstd", "gzip"])
    parquet.write_table(pa.table(columns), file, row_group_size=groups, compression=compression)
    content = file.getvalue()
    if r.random() < 0.1:
        return content
    if r.random() < 0.6:  # the footer, which says what follows where
        size = int.from_bytes(content[-8:-4], "little")
        start = len(content) - 8 - size
        return content[:start] + scrambled(content[start:-8], r) + content[-8:]
    return scrambled(content, r)


def forged_csv(r: random.Random) -> bytes:
    if r.random() < 0.2:
        return b"y,a\n" + r.randbytes(r.choice([1, 100, 5000]))
    mark = r.choice([",", ";", "\t"])
    end = r.choice(["\n", "\r\n", "\r"])
    cells = ["cat", "1.5", "", '"a b"', '"a""b"', f'"a{mark}b"', '"a\nb"', "\u00e9", "x" * r.choice([10, 100_000]), '"']
    rows = [mark.join(r.choice(cells[:8] if r.random() < 0.9 else cells) for _ in range(3)) for _ in range(30)]
    content = end.join([mark.join(["y", "a", "b"]), *rows]).encode(r.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
    return scrambled(content, r) if r.random() < 0.5 else content


READER = parquet_file.IsolatedReader()
"""Reads one file after the other: starting a process takes longer than reading a forged file."""


def read_table(path: Path) -> Any:
    from balance_tune.datasets import tabular

    with unittest.mock.patch.object(tabular, "try_reading", READER.try_reading):
        table = tabular.read_table(path, ["y"])
    return [
        cell.value() if isinstance(cell, tabular.Embedded) else cell
        for cells in table.columns.values()
        for cell in cells
    ]


# videos --------------------------------------------------------------------------------------------------------
VIDEOS: dict[str, bytes] = {}


def video(kind: str = "mp4") -> bytes:
    import av

    if kind not in VIDEOS:
        file = io.BytesIO()
        with av.open(file, "w", format=kind) as container:
            stream = container.add_stream("mpeg4", rate=5)
            stream.width, stream.height = 48, 32
            for shade in range(0, 250, 25):
                frame = np.full((32, 48, 3), shade, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        VIDEOS[kind] = file.getvalue()
    return VIDEOS[kind]


def forged_video(r: random.Random) -> bytes:
    content = video(r.choice(["mp4", "matroska", "avi"]))
    return scrambled(content, r) if r.random() < 0.9 else content


def read_video(path: Path) -> Any:
    from balance_tune.datasets import videos

    return len(videos.middles(path.read_bytes(), 3))


# weights of torch ----------------------------------------------------------------------------------------------
def forged_weights(r: random.Random) -> bytes:
    """Return a file of `torch.save`: of tensors, of what calls a function, of one whose size lies."""
    import torch

    if r.random() < 0.2:
        name = r.choice(["os.system", "builtins.eval", "torch.load", "torch.hub.load", "numpy.load"])
        return b"\x80\x02" + called(name, text("echo")) + b"."
    state: Any = {
        "conv1.weight": torch.zeros(4, 3, 7, 7),
        "bn1.bias": torch.zeros(r.choice([0, 4])),
        "n": torch.tensor(3),
    }
    state = r.choice([state, state, {"state_dict": state}, list(state.values()), {"a": 1}])
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=r.random() < 0.6)
    content = file.getvalue()
    if r.random() < 0.3:  # another shape than the bytes have
        content = content.replace(b"K\x07K\x07", b"J" + size_of(r, 31).to_bytes(4, "little")[:3] + b"\x00K\x07")
    return scrambled(content, r) if r.random() < 0.8 else content


def read_weights(path: Path) -> Any:
    from balance_tune.models.encoder_resnet import read_weights as read

    return sum(tensor.numel() for tensor in read(path).values())


READERS: dict[str, tuple[Forge, Read]] = {
    "parquet": (forged_parquet, read_table),
    "csv": (forged_csv, read_table),
    "video": (forged_video, read_video),
    "weights": (forged_weights, read_weights),
}

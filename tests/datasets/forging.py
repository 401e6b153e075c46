"""Forged files of samples and checkpoints: valid ones whose headers lie. `read_forged.py` reads them."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import tempfile
import wave
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Forge = Callable[[random.Random], bytes]
Read = Callable[[Path], Any]
SIZES = (0, 1, 2, 3, 7, 255, 256, 65535, 2**20, 2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)


def size_of(r: random.Random, bits: int = 64) -> int:
    return r.choice([n for n in SIZES if n < 2**bits])


def scrambled(content: bytes, r: random.Random, most: int = 6) -> bytes:
    """Return `content` with some bytes, or some little- or big-endian numbers, replaced, or cut."""
    made = bytearray(content)
    for _ in range(r.randint(1, most)):
        at = r.randrange(len(made))
        number = r.choice([
            bytes([r.randrange(256)]),
            struct.pack(r.choice("<>") + "I", size_of(r, 32)),
            struct.pack(r.choice("<>") + "Q", size_of(r)),
            struct.pack(r.choice("<>") + "H", size_of(r, 16)),
        ])  # fmt: skip
        made[at : at + len(number)] = number
    if r.random() < 0.1:
        del made[r.randrange(len(made)) :]
    return bytes(made) or b"\0"


# pickles: programs of opcodes ----------------------------------------------------------------------------------
def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(17, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def data(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def called(name: str, *arguments: bytes) -> bytes:
    module, attribute = name.rsplit(".", 1)
    return f"c{module}\n{attribute}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def dtype(r: random.Random) -> bytes:
    code = r.choice(
        ["f4", "f8", "i8", "O", "O8", "O4", "V8", "S3", "U2", "S4000000000", "U999999", "M8[ns]", "f16", "i4,f8", "x"]
    )
    made = called("numpy.dtype", text(code), b"\x89", b"\x88")
    if r.random() < 0.7:
        state = [number(3), text(r.choice("<>|=!")), b"N", b"N", b"N", number(size_of(r, 31)), number(-1), number(63)]
        if r.random() < 0.3:
            state[r.randrange(8)] = r.choice([b"N", number(size_of(r)), text("a"), b"(" + text("a") + b"t"])
        made += b"(" + b"".join(state) + b"tb"
    return made


def array(r: random.Random) -> bytes:
    shape = b"(" + b"".join(number(r.choice([1, 2, 3, size_of(r)])) for _ in range(r.randint(0, 3))) + b"t"
    content = r.choice([data(r.randbytes(r.choice([0, 4, 8, 12, 24, 96]))), text("abcd" * 2), b"]", b"N", number(5)])
    if r.random() < 0.3:
        return called("numpy._core.numeric._frombuffer", content, dtype(r), shape, text(r.choice("CFA")))
    if r.random() < 0.3:
        return called("numpy.core.multiarray.scalar", dtype(r), content)
    cls = r.choice([b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"N"])
    made = called("numpy.core.multiarray._reconstruct", cls, b"(" + number(0) + b"t", data(b"b"))
    return made + b"(" + number(1) + shape + dtype(r) + r.choice([b"\x88", b"\x89"]) + content + b"tb"


def nested(r: random.Random) -> bytes:
    deep = r.choice([10, 1000, 200_000])
    return r.choice([
        b"(" + b")" + b"\x85" * deep + b"N" + b"d",  # a deep tuple as a key: its hash takes the stack
        b"]" + b"(" * 0 + b"]a" * 1 + b"]" * 0 + b"".join(b"](" for _ in range(deep)) + b"e" * deep,
        b"](" + b"h\x00" * deep + b"e",
        b"]q\x00h\x00a",  # a list of itself
        b"r" + struct.pack("<I", size_of(r, 32)),
        b"Nr" + struct.pack("<I", size_of(r, 32)),
        b"\x95" + struct.pack("<Q", size_of(r)),
        b"\x8e" + struct.pack("<Q", size_of(r)) + b"abc",
        b"\x8b" + struct.pack("<I", size_of(r, 31)) + b"abc",
    ])  # fmt: skip


def forged_pickle(r: random.Random) -> bytes:
    kind = r.random()
    if kind < 0.3:
        whole = {
            "x": np.arange(12).astype(r.choice(["f4", "f8", "U3", "S2"])),
            "n": [1, "two", b"three", np.float64(3)],
        }
        content = pickle.dumps(whole, r.choice([0, 2, 4, 5]))
        return scrambled(content, r) if r.random() < 0.8 else content
    if kind < 0.45:
        return b"\x80\x04" + nested(r) + b"."
    if kind < 0.55:
        name = r.choice(["os.system", "builtins.eval", "numpy.load", "numpy.dtype", "numpy.ndarray", "_codecs.encode"])
        return b"\x80\x02" + called(name, text("echo"), text("latin1")) + b"."
    items = b"".join(text(f"k{i}") + array(r) for i in range(r.randint(1, 3)))
    return b"\x80\x02}(" + items + b"u."


def read_pickle(path: Path) -> Any:
    from balance_tune.datasets.pickles import read_arrays

    value = read_arrays(path)
    return repr(value)[:100]


# Arrow: a part of a store --------------------------------------------------------------------------------------
def forged_arrow(r: random.Random) -> bytes:
    import pyarrow as pa

    rows = 6
    right = np.zeros((rows, 3), "f4")
    values = r.choice([right, right, right, np.zeros((rows, 3), "f8"), np.zeros((rows, 2, 4), "f4")])
    whole = pa.array(range(rows))
    labels: Any = r.choice([whole, whole, whole, pa.array([None] * rows, pa.int64()), pa.array(["x"] * rows)])
    column: Any = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    if r.random() < 0.3:
        column = r.choice([pa.array([[1.0]] * rows), pa.nulls(rows), pa.array([{"a": 1}] * rows), column.storage])
    if r.random() < 0.05:
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((rows, 2**20), "f4"))
    batch = pa.RecordBatch.from_arrays([column, labels, pa.array(range(rows))], names=["a", "label", "row"])
    options = pa.ipc.IpcWriteOptions(compression=r.choice([None, None, None, "lz4", "zstd"]))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema, options=options) as writer:
        for _ in range(r.choice([1, 1, 1, 0, 2])):
            writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return scrambled(content, r, 1) if r.random() < 0.7 else content


def read_arrow(path: Path) -> Any:
    from balance_tune.datasets.manifest import Shard
    from balance_tune.datasets.modality import Modality
    from balance_tune.datasets.shards import open_shard

    shard = Shard(path.name, 6, path.stat().st_size, "")
    part = open_shard(path, shard, {"a": Modality((3,), "mlp")})
    return float(part.inputs["a"].sum()) + int(part.labels.sum()) + int(part.rows.sum())


# safetensors, with the card beside it --------------------------------------------------------------------------
def checkpoint() -> tuple[bytes, dict[str, Any]]:
    from balance_tune.testing.tiny import tiny_run
    from balance_tune.training.checkpoint import CARD, WEIGHTS, save_best
    from balance_tune.training.loop import train

    run, modulation = tiny_run("joint", epochs=1)
    list(train(run, modulation))
    with tempfile.TemporaryDirectory() as folder:
        save_best(run, Path(folder))
        return (Path(folder) / WEIGHTS).read_bytes(), json.loads((Path(folder) / CARD).read_text())


def forged_safetensors(r: random.Random) -> bytes:
    """Return a card's length, the card, and weights: either of them lies."""
    weights, card = WHOLE or WHOLE_OF()
    if r.random() < 0.5:
        length = struct.unpack("<Q", weights[:8])[0]
        header = json.loads(weights[8 : 8 + length])
        entry = header[r.choice([name for name in header if name != "__metadata__"])]
        r.choice([
            lambda: entry.update(shape=[size_of(r), size_of(r)]),
            lambda: entry.update(dtype=r.choice(["F64", "F8_E5M2", "BOOL", "I64", "X"])),
            lambda: entry.update(data_offsets=[size_of(r), size_of(r)]),
            lambda: entry.update(shape=[]),
            lambda: header.pop(next(iter(header))),
        ])()  # fmt: skip
        text = json.dumps(header).encode()
        first = struct.pack("<Q", len(text) if r.random() < 0.9 else size_of(r))
        weights = first + text + weights[8 + length :]
    if r.random() < 0.2:
        weights = scrambled(weights, r)
    if r.random() < 0.6:
        card = json.loads(json.dumps(card))
        model = card["model"]
        encoder = model["encoders"][next(iter(model["encoders"]))]
        r.choice([
            lambda: model.update(classes=r.choice([size_of(r), -1, "x", None])),
            lambda: model.update(name=r.choice(["os:system", "torch:load", "torch.nn:Linear", "x", 3])),
            lambda: model.update(fusion=r.choice(["sum", "nothing", 5, {"a": 1}])),
            lambda: model.update(task=r.choice(["regression", "none", 1])),
            lambda: encoder.__setitem__(0, r.choice([[size_of(r, 31)], [], "x", [-1], [1.5]])),
            lambda: encoder.__setitem__(1, r.choice(["torch:empty", "resnet18", "torch.nn:Linear", 7])),
            lambda: encoder.__setitem__(2, r.choice([{"features": size_of(r)}, {"x": 1}, 5, [1]])),
            lambda: card.update(method=r.choice(["ogm_ge", "nothing", 5])),
            lambda: card.update(modulation=r.choice([{"alpha": "x"}, 5, None])),
            lambda: model.pop(r.choice(list(model))),
        ])()  # fmt: skip
    text = json.dumps(card).encode()
    return struct.pack("<I", len(text)) + text + weights


WHOLE: tuple[bytes, dict[str, Any]] | None = None


def WHOLE_OF() -> tuple[bytes, dict[str, Any]]:  # noqa: N802
    global WHOLE
    WHOLE = checkpoint()
    return WHOLE


def read_safetensors(path: Path) -> Any:
    from balance_tune.training.checkpoint import CARD, WEIGHTS, load_best

    content = path.read_bytes()
    length = struct.unpack("<I", content[:4])[0]
    (path.parent / CARD).write_bytes(content[4 : 4 + length])
    (path.parent / WEIGHTS).write_bytes(content[4 + length :])
    return sum(p.numel() for p in load_best(path.parent).parameters())


# pictures ------------------------------------------------------------------------------------------------------
def forged_image(r: random.Random) -> bytes:
    from PIL import Image

    kind = r.choice(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "ICO", "EPS"])
    shape = (r.randint(1, 40), r.randint(1, 40), 3)
    picture = Image.fromarray(np.frombuffer(r.randbytes(shape[0] * shape[1] * 3), np.uint8).reshape(shape))
    file = io.BytesIO()
    if kind == "PNG" and r.random() < 0.5:  # sizes that lie, in a header whose check sum is right; bombs
        size = struct.pack(">II", size_of(r, 31) or 1, size_of(r, 31) or 1)
        rest = bytes([r.choice([1, 8, 16, 3]), r.choice([0, 2, 3, 6, 9]), 0, 0, r.choice([0, 1])])
        pixels = zlib.compress(b"\0" * r.choice([100, 10_000_000]), 9)
        chunks = [(b"IHDR", size + rest), (b"IDAT", pixels), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
        )
    picture.save(file, kind)
    content = file.getvalue()
    return scrambled(content, r) if r.random() < 0.9 else content


def read_image(path: Path) -> Any:
    from balance_tune.datasets.columns import column_of
    from balance_tune.registry import datasets

    content = path.read_bytes()
    if content[:4] == b"\x89PNG" and len(content) % 2:
        return datasets().get("av_digits")().decode("image", content).shape
    return column_of("image", {"column": "image", "kind": "image", "size": 32}).sample(path.parent, (path.name,)).shape


# sound ----------------------------------------------------------------------------------------------
def forged_sound(r: random.Random) -> bytes:
    import soundfile

    kind = r.choice(["WAV", "FLAC", "OGG", "AIFF", "MP3", "header"])
    values = np.sin(np.arange(r.choice([10, 2000])) / 5).astype(np.float32)
    file = io.BytesIO()
    if kind == "header":
        with wave.open(file, "wb") as sound:
            sound.setnchannels(r.choice([1, 2, 8, 255]))
            sound.setsampwidth(r.choice([1, 2, 4]))
            sound.setframerate(r.choice([1, 7, 8000, 2**20]))
            sound.writeframes(r.randbytes(4080))
        content = bytearray(file.getvalue())
        content[r.choice([4, 40]) :][:4] = struct.pack("<I", size_of(r, 32))
        return bytes(content)
    soundfile.write(file, values, r.choice([8000, 16000, 44100]), format=kind)
    content = file.getvalue()
    if kind == "FLAC" and r.random() < 0.5:  # samples in all (36 bits), rate and channels of the first block
        made = bytearray(content)
        made[18:26] = struct.pack(">Q", r.getrandbits(64))
        return bytes(made)
    return scrambled(content, r) if r.random() < 0.9 else bytes(content)


def read_sound(path: Path) -> Any:
    from balance_tune.datasets import sounds

    return sounds.sound(path.read_bytes(), 16000).shape


# arrays of tables ----------------------------------------------------------------------------------------------
def forged_npy(r: random.Random) -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(12).astype(r.choice(["f4", "i8", "c8", "U3", "b1"])))
    content = file.getvalue()
    if r.random() < 0.6:
        shape = tuple(size_of(r) for _ in range(r.randint(0, 3)))
        kind = r.choice(["'<f4'", "'|O'", "'<f8'", "'<U9'", "[('a', '<f4')]", "'<M8[ns]'", "5"])
        header = f"{{'descr': {kind}, 'fortran_order': {r.choice([True, False])}, 'shape': {shape}, }}".encode()
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + r.randbytes(48)
    return scrambled(content, r) if r.random() < 0.3 else content


def read_npy(path: Path) -> Any:
    from balance_tune.datasets.columns import column_of

    return column_of("x", {"column": "x", "kind": "array", "shape": [12]}).sample(path.parent, (path.name,)).shape


READERS: dict[str, tuple[Forge, Read]] = {
    "pickle": (forged_pickle, read_pickle),
    "arrow": (forged_arrow, read_arrow),
    "safetensors": (forged_safetensors, read_safetensors),
    "image": (forged_image, read_image),
    "sound": (forged_sound, read_sound),
    "npy": (forged_npy, read_npy),
}

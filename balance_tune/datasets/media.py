"""Decoding of sound, pictures and video files; whatever is wrong with one becomes `Unreadable` with a short reason."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import limits
from balance_tune.datasets.distribution import Unreadable
from balance_tune.errors import UserError

SOUNDS = (".wav", ".flac", ".ogg")
"""What soundfile reads; all else goes through PyAV."""
COMPLETE = 0.8
"""Share of the length it declares that a video must have."""
Fit = Literal["squash", "cover"]
File = Path | bytes
"""A file, or what is in one."""
Sound = File | NDArray[np.float32]
"""... or a waveform (samples,) that is at the rate asked for."""
Seen = File | Sequence[bytes]
"""... or several pictures' files, in order."""
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""Of pictures: Pillow's decoders of other formats are few people's, and one of them starts a program (EPS)."""
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM")  # what such files begin with


def sound(heard: Sound, rate: int) -> NDArray[np.float32]:
    """Return a file's sound as mono (samples,) at `rate` Hz, as librosa.load does: mean of channels, soxr HQ.

    Raises:
        Unreadable: the file is missing or broken, has no sound, is silent throughout, or is beyond a limit.
    """
    if isinstance(heard, np.ndarray):
        values, native = heard[:, None], rate
    else:
        values, native = _soundfile(heard) if _is_sound(heard) else _av_sound(heard)
    if not len(values):
        raise Unreadable(named(heard), "it has no sound")
    mono = values.mean(axis=1, dtype=np.float32) if values.shape[1] > 1 else values[:, 0]
    if not np.isfinite(mono).all():
        raise Unreadable(named(heard), "its sound has values that are not finite")
    if not mono.any():
        raise Unreadable(named(heard), "it is silent")
    return resampled(mono, native, rate)


def named(file: Sound | Seen) -> Path | str:
    """Return what a message calls a file."""
    return file if isinstance(file, Path) else "the file"


def _is_sound(file: File) -> bool:
    if isinstance(file, Path):
        return file.suffix.lower() in SOUNDS
    if not isinstance(file, bytes):
        return False
    return file[:4] in (b"fLaC", b"OggS") or (file[:4] == b"RIFF" and file[8:12] == b"WAVE")


def _refuse(file: File, reason: str | None) -> None:
    if reason is not None:
        raise Unreadable(named(file), reason)


def _readable(file: File) -> Any:
    if not isinstance(file, Path | bytes):
        raise Unreadable(named(file), f"it is of type {type(file).__name__}")
    return str(file) if isinstance(file, Path) else io.BytesIO(file)


def resampled(mono: NDArray[np.float32], native: int, rate: int) -> NDArray[np.float32]:
    """Return sound at another rate, ceil(samples * rate / native) of it."""
    if native == rate:
        return mono
    soxr = extra("soxr")
    length = math.ceil(len(mono) * rate / native)
    made: NDArray[np.float32] = soxr.resample(mono, native, rate, quality="HQ")[:length]
    return np.pad(made, (0, length - len(made)))


def _soundfile(file: File) -> tuple[NDArray[np.float32], int]:
    import soundfile

    try:
        with soundfile.SoundFile(_readable(file)) as opened:
            _refuse(file, limits.too_long_sound(opened.frames, opened.samplerate, opened.channels))
            values, native = opened.read(dtype="float32", always_2d=True), opened.samplerate
    except (soundfile.SoundFileError, OSError) as error:
        raise Unreadable(named(file), f"it is no readable sound file ({_first(error)})") from error
    return values, native


def _av_sound(file: File) -> tuple[NDArray[np.float32], int]:
    with _opened(file) as container:
        if not container.streams.audio:
            raise Unreadable(named(file), "it has no sound track")
        stream = container.streams.audio[0]
        native = int(stream.rate)
        resampler = extra("av").AudioResampler(format="fltp", layout=stream.layout, rate=native)
        blocks: list[NDArray[np.float32]] = []
        length = 0
        for frame in chain(container.decode(stream), [None]):
            for out in resampler.resample(frame):
                blocks.append(out.to_ndarray())
                length += blocks[-1].shape[1]
                _refuse(file, limits.too_long_sound(length, native, len(blocks[-1])))
    if not blocks:
        raise Unreadable(named(file), "it has no sound")
    return np.concatenate(blocks, axis=1).T.astype(np.float32, copy=False), native


def middles(seen: Seen, count: int) -> list[NDArray[np.uint8]]:
    """Return the frames of a video at the middles of `count` equal segments; pictures are taken as they are.

    Raises:
        Unreadable: as `video_frames` and `picture`.
    """
    pictures = stills(seen)
    return pictures if pictures is not None else video_frames(seen, middle_times(seen, count))


def middle_times(seen: Seen, count: int) -> list[float]:
    """Return the seconds at the middles of `count` equal segments of a video."""
    length = duration(seen)
    return [(k + 0.5) * length / count for k in range(count)]


def stills(seen: Seen) -> list[NDArray[np.uint8]] | None:
    """Return the frames that pictures are, (height, width, 3) each; None of a video.

    Pictures are the .jpg of a folder, in the order of their names, or the content of one picture's file, or of several.
    """
    if isinstance(seen, Path):
        if not seen.is_dir():
            return None
        return _pictures(jpgs(seen))
    if isinstance(seen, bytes):
        return [picture(seen)] if seen.startswith(_PICTURES) else None
    if not isinstance(seen, list | tuple) or not seen:
        raise Unreadable(named(seen), f"it is of type {type(seen).__name__}, and empty or no file")
    return _pictures(seen)


def _pictures(files: Sequence[File]) -> list[NDArray[np.uint8]]:
    pictures: list[NDArray[np.uint8]] = []
    size = 0
    for file in files:
        pictures.append(picture(file))
        size += pictures[-1].nbytes
        _refuse(file, limits.too_many_bytes(size))
    return pictures


def jpgs(folder: Path) -> list[Path]:
    """Return the pictures of a folder, in the order of their names; none is `Unreadable`."""
    files = sorted(folder.glob("*.jpg"))
    if not files:
        raise Unreadable(folder, "it holds no .jpg")
    return files


def video_frames(
    seen: Seen, times: Sequence[float] | None = None, *, fps: float = 1.0, most: int | None = None
) -> list[NDArray[np.uint8]]:
    """Return frames (height, width, 3) of a video: at `times` (seconds), or at 0, 1/fps, 2/fps, ... at most `most`.

    A frame at a time is the first one shown then or later; times past the end give the last frame.

    Raises:
        Unreadable: the file is missing or broken, has no pictures, is much shorter than it declares, or is beyond a
            limit (`limits`).
    """
    path = _one(seen)
    found: list[NDArray[np.uint8]] = []
    last: Any = None
    shown = 0.0
    wanted = list(times) if times is not None else None
    with _opened(path) as container:
        if not container.streams.video:
            raise Unreadable(named(path), "it has no pictures")
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        step = 1 / float(stream.average_rate) if stream.average_rate else 0.04
        declared = container.duration / 1e6 if container.duration else 0.0
        if stream.codec_context is not None:
            _refuse(path, limits.too_large_picture(stream.width, stream.height))
            stream.codec_context.options = {"max_pixels": str(limits.limit("PIXELS"))}  # of frames of other sizes
        _refuse(path, limits.too_long_video(declared, 0))
        first: float | None = None
        for count, frame in enumerate(container.decode(stream), start=1):
            first = frame.time if first is None else first
            shown = (frame.time or 0.0) - (first or 0.0)
            last = frame
            _refuse(path, limits.too_long_video(shown, count))
            due = wanted[len(found)] if wanted is not None else len(found) / fps
            while shown + step / 2 >= due:
                found.append(_pixels(path, frame, len(found)))
                if len(found) == (len(wanted) if wanted is not None else most):
                    return found
                due = wanted[len(found)] if wanted is not None else len(found) / fps
    if last is None:
        raise Unreadable(named(path), "not one of its pictures can be decoded")
    if shown + step < COMPLETE * declared:
        raise Unreadable(named(path), f"it is cut off: {shown + step:.1f} s of {declared:.1f} s can be decoded")
    while wanted is not None and len(found) < len(wanted):
        found.append(_pixels(path, last, len(found)))
    return found


def _pixels(file: File, frame: Any, before: int) -> NDArray[np.uint8]:
    """Return a frame (height, width, 3), of which `before` are kept already; its size may change within a video."""
    _refuse(file, limits.too_large_picture(frame.width, frame.height))
    _refuse(file, limits.too_many_bytes((before + 1) * frame.width * frame.height * 3))
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    return pixels


def duration(seen: Seen) -> float:
    """Return the length in seconds that a video declares."""
    with _opened(_one(seen)) as container:
        if not container.duration:
            raise Unreadable(named(seen), "it does not say how long it is")
        return float(container.duration / 1e6)


def has_sound(path: Path) -> bool:
    """Whether a video has a sound track."""
    with _opened(path) as container:
        return bool(container.streams.audio)


def _one(seen: Seen) -> File:
    if not isinstance(seen, Path | bytes):
        raise Unreadable("the file", "a video is one file, and these are several")
    return seen


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    av = extra("av")
    try:
        with av.open(_readable(file)) as container:
            yield container
    except UserError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise Unreadable(named(file), f"it cannot be decoded ({_first(error)})") from error


def picture(file: File, mode: Literal["RGB", "L"] = "RGB") -> NDArray[np.uint8]:
    """Return an image file as (height, width, 3), or (height, width) in grey.

    Raises:
        Unreadable: it is missing, broken, cut off, or beyond a limit (`limits`).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(_readable(file), formats=FORMATS) as image:
            _refuse(file, limits.too_large_picture(*image.size))
            return np.asarray(image.convert(mode))
    except UserError:  # of a limit that is none
        raise
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unreadable(named(file), f"it is no readable image ({_first(error)})") from error


def fitted(image: NDArray[np.uint8], size: tuple[int, int], fit: Fit = "squash") -> NDArray[np.uint8]:
    """Return an image (H, W[, 3]) at (height, width), bilinear with antialiasing as torchvision's Resize of images.

    "squash" changes the aspect; "cover" keeps it and cuts what sticks out, equally on both sides.
    """
    from PIL import Image

    height, width = size
    made = Image.fromarray(image)
    if fit == "squash":
        return np.asarray(made.resize((width, height), Image.Resampling.BILINEAR))
    scale = max(height / made.height, width / made.width)
    tall, wide = max(height, round(made.height * scale)), max(width, round(made.width * scale))
    made = made.resize((wide, tall), Image.Resampling.BILINEAR)
    left, top = (wide - width) // 2, (tall - height) // 2
    return np.asarray(made.crop((left, top, left + width, top + height)))


def clip(
    frames: Sequence[NDArray[np.uint8]], count: int, size: tuple[int, int], fit: Fit = "squash"
) -> NDArray[np.uint8]:
    """Return (channels, count, height, width) of the first `count` frames; of fewer the last is repeated."""
    chosen = [fitted(frame, size, fit) for frame in frames[:count]]
    chosen += [chosen[-1]] * (count - len(chosen))
    stacked = np.stack(chosen)
    stacked = stacked[..., None] if stacked.ndim == 3 else stacked
    return np.ascontiguousarray(stacked.transpose(3, 0, 1, 2))


def extra(name: str) -> Any:
    """Return a module of the extra `data`, or say how to install it."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"preparing data needs `{name}`, but it is not installed: pip install 'balance_tune[data]'."
        ) from error


def _first(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__

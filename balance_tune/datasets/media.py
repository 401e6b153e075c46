"""Decoding of sound, pictures and video files; whatever is wrong with one becomes `Unreadable` with a short reason."""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import limits
from balance_tune.datasets.decoding import Unreadable
from balance_tune.datasets.named_file import unusable
from balance_tune.datasets.pointers import what_it_is
from balance_tune.errors import UserError

SOUNDS = (".wav", ".flac", ".ogg")
"""What soundfile reads; all else goes through PyAV."""
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings of the pictures that a folder of frames may hold, in lower case."""
COMPLETE = 0.8
"""Share of the length it declares that a video or sound must have."""
Fit = Literal["squash", "cover"]
File = Path | bytes
"""A file, or what is in one."""
Sound = File | NDArray[np.float32]
"""... or a waveform (samples,) that is at the rate asked for."""
Seen = File | Sequence[bytes]
"""... or several pictures' files, in order."""
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""Of pictures: Pillow's other decoders are for rare formats, and one of them starts a program (EPS)."""
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")  # what such files begin with
_GUESSED = ("mpeg", "mpegvideo", "m4v", "h264", "hevc", "mjpeg")
"""FFmpeg's formats that say no length: it guesses one from the bit rate, far from the true one."""
_OTHER_PICTURES = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF"}
_EXIF_ORIENTATION = 0x0112


def sound(source: Sound, rate: int) -> NDArray[np.float32]:
    """Return a file's sound as mono (samples,) at `rate` Hz, as librosa.load does: mean of channels, soxr HQ.

    Raises:
        Unreadable: the file is missing or broken, has no sound, is silent throughout, or is beyond a limit.
    """
    if isinstance(source, np.ndarray):
        values, native = source[:, None], rate
    else:
        values, native = _soundfile(source) if _is_sound(source) else _av_sound(source)
    if not len(values):
        raise Unreadable(named(source), "it has no sound")
    mono = values.mean(axis=1, dtype=np.float32) if values.shape[1] > 1 else values[:, 0]
    if not np.isfinite(mono).all():
        raise Unreadable(named(source), "its sound has values that are not finite")
    if not mono.any():
        raise Unreadable(named(source), "it is silent")
    return resampled(mono, native, rate)


def named(file: Sound | Seen) -> Path | str:
    """Return what a message calls a file."""
    return file if isinstance(file, Path) else "the file"


def beginning(file: Any, size: int = 512) -> bytes:
    """Return the first bytes of a file; none where it cannot be read."""
    if isinstance(file, bytes):
        return file[:size]
    try:
        if not Path(file).is_file():
            return b""
        with Path(file).open("rb") as opened:
            return opened.read(size)
    except (OSError, TypeError, ValueError):  # the caller has failed to read it, and says why
        return b""


def unreadable(file: Any, reason: str) -> Unreadable:
    """Return the error for a file that cannot be used: what it is where it is something else, else `reason`."""
    name = file.name if isinstance(file, Path) else ""
    if isinstance(file, Path) and unusable(file) is None and file.is_dir():
        return Unreadable(file, "it is a folder, not a file")
    return Unreadable(named(file), what_it_is(name, beginning(file)) or reason)


def _is_sound(file: Any) -> bool:
    """Whether soundfile should read it: by its content, and where that does not decide by its ending."""
    start = beginning(file, 12)
    if start[:4] in (b"fLaC", b"OggS") or (start[:4] == b"RIFF" and start[8:12] == b"WAVE"):
        return True
    other = start[4:8] == b"ftyp" or start[:3] == b"ID3" or start[:4] in (b"\x1aE\xdf\xa3", b"FLV\x01")
    return isinstance(file, Path) and file.suffix.lower() in SOUNDS and not other


def _refuse(file: File, reason: str | None) -> None:
    if reason is not None:
        raise Unreadable(named(file), reason)


def _readable(file: File) -> Any:
    if not isinstance(file, Path | bytes):
        raise Unreadable(named(file), f"it is of type {type(file).__name__}")
    return str(file) if isinstance(file, Path) else io.BytesIO(file)


def resampled(mono: NDArray[np.float32], native: int, rate: int) -> NDArray[np.float32]:
    """Return sound at another rate, ceil(samples * rate / native) of it.

    Args:
        mono: (samples,).
        native: its rate in Hz.
        rate: the wanted rate in Hz.
    """
    if native == rate:
        return mono
    soxr = extra("soxr")
    length = math.ceil(len(mono) * rate / native)
    resampled_mono: NDArray[np.float32] = soxr.resample(mono, native, rate, quality="HQ")[:length]
    return np.pad(resampled_mono, (0, length - len(resampled_mono)))


def _soundfile(file: File) -> tuple[NDArray[np.float32], int]:
    import soundfile

    try:
        with soundfile.SoundFile(_readable(file)) as opened:
            _refuse(file, limits.too_long_sound(opened.frames, opened.samplerate, opened.channels))
            native, declared = opened.samplerate, max(opened.frames, _wav_frames(file))
            values = opened.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise unreadable(file, f"it is no readable sound file ({_first(error)})") from error
    if len(values) < COMPLETE * declared:
        raise Unreadable(
            named(file), f"it is cut off: {len(values) / native:.1f} s of {declared / native:.1f} s can be decoded"
        )
    return values, native


def _wav_frames(file: File) -> int:
    """Return how many frames the header of a WAV file declares; 0 of another file, or where it does not know."""
    start = beginning(file, 2**16)
    if start[:4] != b"RIFF" or start[8:12] != b"WAVE":
        return 0
    place, frame = 12, 0
    while place + 8 <= len(start):
        name, size = struct.unpack_from("<4sI", start, place)
        if name == b"fmt " and place + 22 <= len(start):
            (frame,) = struct.unpack_from("<H", start, place + 20)
        if name == b"data":  # writers that cannot go back leave 0 or a very large number
            return size // frame if frame and 0 < size < 0x7FFF0000 else 0
        place += 8 + size + size % 2
    return 0


def _av_sound(file: File) -> tuple[NDArray[np.float32], int]:
    with _opened(file) as container:
        if not container.streams.audio:
            raise unreadable(file, "it has no sound track")
        stream = container.streams.audio[0]
        native = int(stream.rate)
        resampler = extra("av").AudioResampler(format="fltp", layout=stream.layout, rate=native)
        blocks: list[NDArray[np.float32]] = []
        frames = length = 0
        for frame in chain(container.decode(stream), [None]):
            frames += frame is not None
            for out in resampler.resample(frame):
                blocks.append(out.to_ndarray())
                length += blocks[-1].shape[1]
                _refuse(file, limits.too_long_sound(length, native, len(blocks[-1])))
        if not blocks:
            raise Unreadable(named(file), "it has no sound")
        _check_whole(file, container, stream, frames, length / native)
    return np.concatenate(blocks, axis=1).T.astype(np.float32, copy=False), native


def middles(visual: Seen, count: int) -> list[NDArray[np.uint8]]:
    """Return the frames at the middles of `count` equal segments of a video, or of pictures in order.

    Of at most `count` pictures all are taken.

    Raises:
        Unreadable: as `video_frames` and `picture`.
    """
    files = _pictures(visual)
    if files is None:
        return video_frames(visual, middle_times(visual, count))
    if len(files) > count:
        files = [files[int((k + 0.5) * len(files) / count)] for k in range(count)]
    return [picture(file) for file in files]


def middle_times(video: Seen, count: int) -> list[float]:
    """Return the seconds at the middles of `count` equal segments of a video."""
    length = duration(video)
    return [(k + 0.5) * length / count for k in range(count)]


def stills(visual: Seen) -> list[NDArray[np.uint8]] | None:
    """Return the frames that pictures are, (height, width, 3) each; None of a video.

    Pictures are those of a folder, in natural order, or the content of one picture's file, or of several.
    """
    files = _pictures(visual)
    if files is None:
        return None
    pictures: list[NDArray[np.uint8]] = []
    size = 0
    for file in files:
        pictures.append(picture(file))
        size += pictures[-1].nbytes
        _refuse(file, limits.too_many_bytes(size))
    return pictures


def _pictures(visual: Seen) -> list[File] | None:
    """Return the files of pictures, in order; None of a video."""
    if isinstance(visual, Path):
        if visual.is_dir():
            return list(jpgs(visual))
        return [visual] if _is_picture(visual) else None
    if isinstance(visual, bytes):
        return [visual] if _is_picture(visual) else None
    if not isinstance(visual, list | tuple) or not visual:
        raise Unreadable(named(visual), f"it is of type {type(visual).__name__}, and empty or no file")
    return list(visual)


def _is_picture(file: File) -> bool:
    """Whether a file is one picture, by its content; a GIF that moves is a video."""
    start = beginning(file, 24)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        if start[12:16] == b"VP8X" and len(start) > 20 and start[20] & 0x02:
            raise Unreadable(named(file), "it is a WebP picture that moves, which is not decoded; save it as a video")
        return True
    if not start.startswith(b"GIF8"):
        return start.startswith(_PICTURES)
    from PIL import Image

    try:
        with Image.open(_readable(file), formats=FORMATS) as image:
            return not getattr(image, "is_animated", False)
    except (OSError, ValueError, SyntaxError):  # whoever decodes it says what is wrong
        return True


def jpgs(folder: Path) -> list[Path]:
    """Return the pictures of a folder in natural order (2.jpg before 10.jpg); none is `Unreadable`."""
    try:
        files = [f for f in folder.iterdir() if f.suffix.lower() in PICTURES and not f.name.startswith(".")]
    except OSError as error:
        raise Unreadable(folder, f"it cannot be read ({error.strerror})") from error
    if not files:
        raise Unreadable(folder, f"it holds no pictures ({', '.join(PICTURES)})")
    return sorted(files, key=lambda file: (_natural(file.stem), file.name))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key by which numbers in a name count as numbers."""
    pieces = re.split(r"([0-9]+)", name)  # text, digits, text, ...
    return [(int(piece), "") if k % 2 else (0, piece) for k, piece in enumerate(pieces)]


def video_frames(
    video: Seen, times: Sequence[float] | None = None, *, fps: float = 1.0, most: int | None = None
) -> list[NDArray[np.uint8]]:
    """Return frames (height, width, 3) of a video: at `times` (seconds), or at 0, 1/fps, 2/fps, ... at most `most`.

    A frame at a time is the first one shown then or later; times past the end give the last frame.

    Args:
        video: a file, or its content.
        times: in seconds, ascending.
        fps: frames a second, without `times`.
        most: number of frames at most, without `times`; None: all.

    Raises:
        Unreadable: the file is missing or broken, has no pictures, is much shorter than it declares, or is beyond a
            limit (`limits`).
    """
    path = _one(video)
    frames: list[NDArray[np.uint8]] = []
    last: Any = None
    shown, decoded = 0.0, 0
    wanted = list(times) if times is not None else None
    with _opened(path) as container:
        if not container.streams.video:
            raise unreadable(path, "it has no pictures")
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        step = 1 / float(stream.average_rate) if stream.average_rate else 0.04
        if stream.codec_context is not None:
            _refuse(path, limits.too_large_picture(stream.width, stream.height))
            stream.codec_context.options = {"max_pixels": str(limits.limit("PIXELS"))}  # of frames of other sizes
        _refuse(path, limits.too_long_video(container.duration / 1e6 if container.duration else 0.0, 0))
        first: float | None = None
        for count, frame in enumerate(container.decode(stream), start=1):
            first = frame.time if first is None else first
            shown = (frame.time or 0.0) - (first or 0.0)
            last, decoded = frame, count
            _refuse(path, limits.too_long_video(shown, count))
            due = wanted[len(frames)] if wanted is not None else len(frames) / fps
            while shown + step / 2 >= due:
                frames.append(_upright(path, frame, len(frames)))
                if len(frames) == (len(wanted) if wanted is not None else most):
                    return frames
                due = wanted[len(frames)] if wanted is not None else len(frames) / fps
        if last is None:
            raise unreadable(path, "not one of its pictures can be decoded")
        _check_whole(path, container, stream, decoded, shown + step)
    while wanted is not None and len(frames) < len(wanted):
        frames.append(_upright(path, last, len(frames)))
    return frames


def _upright(file: File, frame: Any, before: int) -> NDArray[np.uint8]:
    """Return a frame (height, width, 3) as players show it: turned and mirrored by its display matrix.

    `before` frames of the file are kept already; the size of frames may change within a video.
    """
    _refuse(file, limits.too_large_picture(frame.width, frame.height))
    _refuse(file, limits.too_many_bytes((before + 1) * frame.width * frame.height * 3))
    image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return image
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data))  # column' = a column + c row, row' = b column + d row
    if abs(a) < abs(b):
        image, right, down = image.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    return np.ascontiguousarray(image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])


def _check_whole(file: File, container: Any, stream: Any, frames: int, seconds: float) -> None:
    """Raise `Unreadable` where the file of a stream ends long before it says.

    A stream that is shorter than the others is whole: pictures may end before the sound, and one picture may be shown
    for ten seconds. So the number of frames is compared where the file declares it; else the whole file must go on to
    its end, whatever is there.
    """
    declared = container.duration / 1e6 if container.duration else 0.0
    if seconds >= COMPLETE * declared:
        return
    if stream.frames:
        length = _length(stream) or declared
        whole, ends = frames >= COMPLETE * stream.frames, length * min(1.0, frames / stream.frames)
    else:
        length, ends = declared, max(seconds, _end(file))
        whole = ends >= COMPLETE * declared
    if not whole:
        raise Unreadable(named(file), f"it is cut off: {ends:.1f} s of {length:.1f} s can be decoded")


def _end(file: File) -> float:
    """Return the seconds until the last packet of any stream ends."""
    end = 0.0
    with _opened(file) as container:
        begins = container.start_time / 1e6 if container.start_time else 0.0
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - begins)
    return end


def _length(stream: Any) -> float | None:
    """Return the seconds that a stream says it lasts, by itself; None where it does not."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # of Matroska
    return None if tag is None else 3600 * float(tag[1]) + 60 * float(tag[2]) + float(tag[3])


def duration(video: Seen) -> float:
    """Return the length in seconds that a video declares: of its pictures, where its sound is much longer."""
    with _opened(_one(video)) as container:
        if container.format.name in _GUESSED and container.streams.video:
            return _decoded_length(_one(video), container)
        if not container.duration:
            raise Unreadable(named(video), "it does not say how long it is")
        whole = float(container.duration / 1e6)
        length = _length(container.streams.video[0]) if container.streams.video else None
        return length if length is not None and length < COMPLETE * whole else whole


def _decoded_length(file: File, container: Any) -> float:
    """Return the seconds that the pictures of a video last, by decoding them."""
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    step = 1 / float(stream.average_rate) if stream.average_rate else 0.04
    first: float | None = None
    last = 0.0
    for count, frame in enumerate(container.decode(stream), start=1):
        first = frame.time or 0.0 if first is None else first
        last = (frame.time or 0.0) - first
        _refuse(file, limits.too_long_video(last, count))
    return last + step


def _one(video: Seen) -> File:
    if not isinstance(video, Path | bytes):
        raise Unreadable("the file", "a video is one file, and these are several")
    return video


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    av = extra("av")
    try:
        with av.open(_readable(file)) as container:
            yield container
    except UserError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise unreadable(file, f"it cannot be decoded ({_first(error)})") from error


def picture(file: File, mode: Literal["RGB", "L"] = "RGB") -> NDArray[np.uint8]:
    """Return an image file as (height, width, 3), or (height, width) in grey, of 8 bits.

    It is turned by its EXIF orientation; what is transparent is white; 16 bits are scaled to 8, as are floats from 0
    to 1.

    Raises:
        Unreadable: it is missing, broken, cut off, of values without a scale, or beyond a limit (`limits`).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(_readable(file), formats=FORMATS) as image:
            _refuse(file, limits.too_large_picture(*image.size))
            return np.asarray(_turned(_of_8_bits(file, image)).convert(mode))
    except UserError:  # of a limit that is none
        raise
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        start = beginning(file, 12)
        if start[4:8] == b"ftyp" and start[8:] in _OTHER_PICTURES:
            other = _OTHER_PICTURES[start[8:]]
            reason = f"it is a picture of the format {other}, which is not read; save it as JPEG or PNG"
            raise Unreadable(named(file), reason) from error
        raise unreadable(file, f"it is no readable image ({_first(error)})") from error


def _of_8_bits(file: File, image: Any) -> Any:
    """Return a PIL image with 8 bits a channel and without transparency, its EXIF kept."""
    from PIL import Image

    exif = image.info.get("exif")
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if image.mode == "F":
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            if not (low >= 0 and high <= 1 and np.isfinite(values).all()):
                raise Unreadable(
                    named(file),
                    f"its values are floats from {low:g} to {high:g}, which have no scale; save it as 8 bits",
                )
            most = 1.0
        elif image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):
            bits = image.tag_v2.get(258, (16,))[0] if image.format == "TIFF" else 16
            most = float(2**bits - 1)
        else:
            raise Unreadable(
                named(file), "its values are whole numbers of 32 bits, which have no scale; save it as 8 bits"
            )
        converted = Image.fromarray(np.rint(values.astype(np.float64) * (255 / most)).clip(0, 255).astype(np.uint8))
    elif "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        layered = image.convert("RGBA")
        converted = Image.alpha_composite(Image.new("RGBA", layered.size, (255, 255, 255, 255)), layered).convert("RGB")
    else:
        return image
    if exif is not None:
        converted.info["exif"] = exif
    return converted


def _turned(image: Any) -> Any:
    """Return a PIL image turned by its EXIF orientation; an EXIF block that cannot be read is ignored."""
    from PIL import ImageOps

    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except (SyntaxError, struct.error, ValueError, KeyError, TypeError, EOFError):
        return image
    if orientation not in range(2, 9):
        return image
    return ImageOps.exif_transpose(image)


def fitted(image: NDArray[np.uint8], size: tuple[int, int], fit: Fit = "squash") -> NDArray[np.uint8]:
    """Return an image (H, W[, 3]) at (height, width), bilinear with antialiasing as torchvision's Resize of images.

    "squash" changes the aspect; "cover" keeps it and cuts what sticks out, equally on both sides.

    Args:
        image: 8-bit values.
        size: (height, width) of the result.
        fit: how another aspect is treated.
    """
    from PIL import Image

    height, width = size
    scaled = Image.fromarray(image)
    if fit == "squash":
        return np.asarray(scaled.resize((width, height), Image.Resampling.BILINEAR))
    scale = max(height / scaled.height, width / scaled.width)
    tall, wide = max(height, round(scaled.height * scale)), max(width, round(scaled.width * scale))
    scaled = scaled.resize((wide, tall), Image.Resampling.BILINEAR)
    left, top = (wide - width) // 2, (tall - height) // 2
    return np.asarray(scaled.crop((left, top, left + width, top + height)))


def clip(
    frames: Sequence[NDArray[np.uint8]], count: int, size: tuple[int, int], fit: Fit = "squash"
) -> NDArray[np.uint8]:
    """Return (channels, count, height, width) of the first `count` frames; of fewer the last is repeated.

    Args:
        frames: (height, width, 3) each.
        count: number of frames.
        size: (height, width) of the result.
        fit: as of `fitted`.
    """
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
    text = re.sub(r"'?<(_io\.BytesIO object at 0x[0-9a-f]+|none)>'?", "the file", str(error)).strip().splitlines()
    return text[0][:160] if text else type(error).__name__

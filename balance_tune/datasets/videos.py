"""Decoding of videos, and of pictures in order, which stand for one."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import limits
from balance_tune.datasets.containers import COMPLETE, check_whole, length_of, opened
from balance_tune.datasets.decoding import Unreadable
from balance_tune.datasets.media_file import File, Seen, named, refuse, unreadable
from balance_tune.datasets.pictures import is_picture, jpgs, picture

_GUESSED = ("mpeg", "mpegvideo", "m4v", "h264", "hevc", "mjpeg")
"""FFmpeg's formats that say no length: it guesses one from the bit rate, far from the true one."""


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
        refuse(file, limits.too_many_bytes(size))
    return pictures


def _pictures(visual: Seen) -> list[File] | None:
    """Return the files of pictures, in order; None of a video."""
    if isinstance(visual, Path):
        if visual.is_dir():
            return list(jpgs(visual))
        return [visual] if is_picture(visual) else None
    if isinstance(visual, bytes):
        return [visual] if is_picture(visual) else None
    if not isinstance(visual, list | tuple) or not visual:
        raise Unreadable(named(visual), f"it is of type {type(visual).__name__}, and empty or no file")
    return list(visual)


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
    with opened(path) as container:
        if not container.streams.video:
            raise unreadable(path, "it has no pictures")
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        step = 1 / float(stream.average_rate) if stream.average_rate else 0.04
        if stream.codec_context is not None:
            refuse(path, limits.too_large_picture(stream.width, stream.height))
            stream.codec_context.options = {"max_pixels": str(limits.limit("PIXELS"))}  # of frames of other sizes
        refuse(path, limits.too_long_video(container.duration / 1e6 if container.duration else 0.0, 0))
        first: float | None = None
        for count, frame in enumerate(container.decode(stream), start=1):
            first = frame.time if first is None else first
            shown = (frame.time or 0.0) - (first or 0.0)
            last, decoded = frame, count
            refuse(path, limits.too_long_video(shown, count))
            due = wanted[len(frames)] if wanted is not None else len(frames) / fps
            while shown + step / 2 >= due:
                frames.append(_upright(path, frame, len(frames)))
                if len(frames) == (len(wanted) if wanted is not None else most):
                    return frames
                due = wanted[len(frames)] if wanted is not None else len(frames) / fps
        if last is None:
            raise unreadable(path, "not one of its pictures can be decoded")
        check_whole(path, container, stream, decoded, shown + step)
    while wanted is not None and len(frames) < len(wanted):
        frames.append(_upright(path, last, len(frames)))
    return frames


def _upright(file: File, frame: Any, before: int) -> NDArray[np.uint8]:
    """Return a frame (height, width, 3) as players show it: turned and mirrored by its display matrix.

    `before` frames of the file are kept already; the size of frames may change within a video.
    """
    refuse(file, limits.too_large_picture(frame.width, frame.height))
    refuse(file, limits.too_many_bytes((before + 1) * frame.width * frame.height * 3))
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


def duration(video: Seen) -> float:
    """Return the length in seconds that a video declares: of its pictures, where its sound is much longer."""
    with opened(_one(video)) as container:
        if container.format.name in _GUESSED and container.streams.video:
            return _decoded_length(_one(video), container)
        if not container.duration:
            raise Unreadable(named(video), "it does not say how long it is")
        whole = float(container.duration / 1e6)
        length = length_of(container.streams.video[0]) if container.streams.video else None
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
        refuse(file, limits.too_long_video(last, count))
    return last + step


def _one(video: Seen) -> File:
    if not isinstance(video, Path | bytes):
        raise Unreadable("the file", "a video is one file, and these are several")
    return video

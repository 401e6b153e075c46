"""Files that FFmpeg opens: sound, video or both; one that is cut off is `Unreadable`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from balance_tune.datasets.decoding import Unreadable
from balance_tune.datasets.media_file import File, extra, first_line, named, readable, unreadable
from balance_tune.errors import UserError

COMPLETE = 0.8
"""Share of the length it declares that a video or sound must have."""


@contextmanager
def opened(file: File) -> Iterator[Any]:
    """Yield the container that PyAV opens.

    Raises:
        Unreadable: it cannot be opened, or what is done with it in the block cannot be.
    """
    av = extra("av")
    try:
        with av.open(readable(file)) as container:
            yield container
    except UserError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise unreadable(file, f"it cannot be decoded ({first_line(error)})") from error


def check_whole(file: File, container: Any, stream: Any, frames: int, seconds: float) -> None:
    """Raise `Unreadable` where the file of a stream ends long before it says.

    A stream that is shorter than the others is whole: pictures may end before the sound, and one picture may be shown
    for ten seconds. So the number of frames is compared where the file declares it; else the whole file must go on to
    its end, whatever is there.
    """
    declared = container.duration / 1e6 if container.duration else 0.0
    if seconds >= COMPLETE * declared:
        return
    if stream.frames:
        length = length_of(stream) or declared
        whole, ends = frames >= COMPLETE * stream.frames, length * min(1.0, frames / stream.frames)
    else:
        length, ends = declared, max(seconds, _end(file))
        whole = ends >= COMPLETE * declared
    if not whole:
        raise Unreadable(named(file), f"it is cut off: {ends:.1f} s of {length:.1f} s can be decoded")


def _end(file: File) -> float:
    """Return the seconds until the last packet of any stream ends."""
    end = 0.0
    with opened(file) as container:
        begins = container.start_time / 1e6 if container.start_time else 0.0
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - begins)
    return end


def length_of(stream: Any) -> float | None:
    """Return the seconds that a stream says it lasts, by itself; None where it does not."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # of Matroska
    return None if tag is None else 3600 * float(tag[1]) + 60 * float(tag[2]) + float(tag[3])

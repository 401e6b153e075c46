"""Decoding of pictures, and their sizes."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets import limits
from balance_tune.datasets.decoding import Unreadable
from balance_tune.datasets.media_file import File, beginning, first_line, named, readable, refuse, unreadable
from balance_tune.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings of the pictures that a folder of frames may hold, in lower case."""
Fit = Literal["squash", "cover"]
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""Of pictures: Pillow's other decoders are for rare formats, and one of them starts a program (EPS)."""
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")  # what such files begin with
_OTHER_PICTURES = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF"}
_EXIF_ORIENTATION = 0x0112


def picture(file: File, mode: Literal["RGB", "L"] = "RGB") -> NDArray[np.uint8]:
    """Return an image file as (height, width, 3), or (height, width) in grey, of 8 bits.

    It is turned by its EXIF orientation; what is transparent is white; 16 bits are scaled to 8, as are floats from 0
    to 1.

    Raises:
        Unreadable: it is missing, broken, cut off, of values without a scale, or beyond a limit (`limits`).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(readable(file), formats=FORMATS) as image:
            refuse(file, limits.too_large_picture(*image.size))
            return np.asarray(_turned(_of_8_bits(file, image)).convert(mode))
    except UserError:  # of a limit that is none
        raise
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        start = beginning(file, 12)
        if start[4:8] == b"ftyp" and start[8:] in _OTHER_PICTURES:
            other = _OTHER_PICTURES[start[8:]]
            reason = f"it is a picture of the format {other}, which is not read; save it as JPEG or PNG"
            raise Unreadable(named(file), reason) from error
        raise unreadable(file, f"it is no readable image ({first_line(error)})") from error


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


def is_picture(file: File) -> bool:
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
        with Image.open(readable(file), formats=FORMATS) as image:
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

"""Tiny recordings that look and sound like their class: what miniatures of distributions are made of."""

from __future__ import annotations

import colorsys
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.media_file import extra

TONES = 12  # classes that differ in sound
HUES = 12  # ... and by eye


def generator(name: str) -> np.random.Generator:
    """Return the random numbers of one sample."""
    return np.random.Generator(np.random.PCG64(list(name.encode())))


def tone(label: int, name: str, seconds: float, rate: int) -> NDArray[np.float32]:
    """Return a sound (samples,): the tone of a class with a random phase, in a little noise."""
    random = generator(name)
    t = np.arange(round(seconds * rate)) / rate
    frequency = 220.0 * 2 ** (label % TONES / 3)
    wave = 0.4 * np.sin(2 * np.pi * (frequency * t + random.uniform()))
    return (wave + 0.02 * random.normal(size=len(t))).astype(np.float32)


def scene(label: int, name: str, count: int, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """Return frames (count, height, width, 3): the colour of a class, and a bright square that moves over it."""
    random = generator(name)
    height, width = size
    colour = 255 * np.array(colorsys.hsv_to_rgb(label % HUES / HUES, 0.8, random.uniform(0.5, 0.8)))
    frames = np.broadcast_to(colour, (count, height, width, 3)) + random.normal(0, 6, (count, height, width, 3))
    side = height // 4
    top, left = int(random.integers(0, height - side)), int(random.integers(0, width - side))
    step = 1 + label % 3
    for k in range(count):
        x = (left + k * step) % (width - side)
        frames[k, top : top + side, x : x + side] = 230
    return np.clip(frames, 0, 255).astype(np.uint8)


def write_sound(path: Path, wave: NDArray[np.float32], rate: int) -> None:
    """Write a mono sound (samples,) of floats in -1 .. 1 as 16-bit WAV."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype="PCM_16")


def write_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a picture (height, width, 3) in the format of its suffix."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=90)


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    fps: int,
    codec: str,
    wave: NDArray[np.float32] | None = None,
    rate: int = 16000,
    sound_codec: str = "aac",
) -> None:
    """Write a video in the container its suffix names (.mp4, .avi, .flv), with sound where a wave is given."""
    av = extra("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(codec, rate=fps)
        pictures.height, pictures.width = frames.shape[1:3]
        pictures.pix_fmt = "yuv420p"
        pictures.thread_count = 1
        if codec == "libx264":  # without looking ahead, which depends on how busy the machine is
            pictures.options = {"preset": "ultrafast", "tune": "zerolatency"}
        sound = None if wave is None else container.add_stream(sound_codec, rate=rate, layout="mono")
        for image in frames:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(pictures.encode())
        if sound is None or wave is None:
            return
        for start in range(0, len(wave), 1024):
            block = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = rate, start, Fraction(1, rate)
            container.mux(sound.encode(block))
        container.mux(sound.encode())

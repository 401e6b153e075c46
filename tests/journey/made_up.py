"""Pictures and sounds of twenty speakers, some of the files broken, and a study of them, as a new user has them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, ImageDraw

SPEAKERS, EACH = 20, 6
CLASSES = ("left", "right")
BROKEN = (7, 31, 50, 68, 93, 111)
"""Rows whose picture or sound cannot be read: 5 % of all."""
RECIPE = """
name: arrows
label: points_to
group: speaker
missing: silence
modalities:
  picture: {column: file, kind: image, size: 32, encoder: cnn}
  voice: {column: recording, kind: spectrogram, rate: 4000, seconds: 0.5, n_fft: 128, hop: 64, encoder: cnn}
training: {batch_size: 16, epochs: 10}
"""
STUDY = """
name: arrows_study
datasets: [arrows]
methods: [joint]
training: {lr: 0.05}
search: {trials: 2, early_stopping: none, space: {model: {fusion: [concat, sum]}}}
select: {points: 1, seeds: 0}
confirm: {seeds: 2, default_seeds: 0}
resources: {max_concurrent: 1}
"""


def picture(points_to: str, generator: np.random.Generator) -> Image.Image:
    """Return an arrow that points to the left or right: mirrored, it is one of the other class."""
    image = Image.new("RGB", (48, 40), tuple(generator.integers(0, 90, 3).tolist()))
    x, y = generator.integers(-4, 5, 2).tolist()
    points = [(34 + x, 6 + y), (34 + x, 34 + y), (8 + x, 20 + y)]
    if points_to == "right":
        points = [(48 - px, py) for px, py in points]
    ImageDraw.Draw(image).polygon(points, fill=tuple(generator.integers(160, 256, 3).tolist()))
    return image


def voice(points_to: str, generator: np.random.Generator) -> np.ndarray:
    """Return a noisy tone, which says little of the class."""
    pitch = 300 + 40 * CLASSES.index(points_to) + generator.normal(0, 60)
    tone = np.sin(2 * np.pi * pitch * np.arange(2400) / 4800)
    return 0.2 * tone + generator.normal(0, 0.2, 2400)


def write(folder: Path) -> list[dict[str, str]]:
    """Write the files, table.csv, recipe.yaml and study.yaml; return the table's rows."""
    generator, rows = np.random.default_rng(0), []
    for k in range(SPEAKERS * EACH):
        points_to = CLASSES[k % 2]
        picture(points_to, generator).save(folder / f"picture {k}.png")
        soundfile.write(folder / f"{k}.wav", voice(points_to, generator), 4800)
        recording = "" if k % 40 == 2 else f"{k}.wav"  # some have no sound at all
        rows.append(
            {"file": f"picture {k}.png", "recording": recording, "speaker": f"s{k // EACH:02d}", "points_to": points_to}
        )
    for k, row in enumerate(BROKEN):
        path = folder / (f"picture {row}.png" if k % 2 else f"{row}.wav")
        whole = path.read_bytes()
        path.write_bytes((whole[: len(whole) // 3], b"<html>404</html>", b"")[k % 3])
    with (folder / "table.csv").open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter=";")
        table.writeheader()
        table.writerows(rows)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "study.yaml").write_text(STUDY)
    return rows

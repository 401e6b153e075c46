"""UPMC Food-101: pictures of dishes and the titles of the web pages they were found on."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from balance_tune.datasets import pictures, published
from balance_tune.datasets.decoding import words
from balance_tune.datasets.distribution import Distribution, Item
from balance_tune.datasets.files import class_names, csv_rows
from balance_tune.datasets.miniature import scene, write_picture
from balance_tune.datasets.modality import Modality, rgb
from balance_tune.datasets.splits import SplitRecipe
from balance_tune.datasets.tokens import VOCABULARY, hashed

LENGTH, SIZE = 40, (224, 224)
HEADER = "Image_path"


class Food101(Distribution):
    """90,704 pictures with a title; a picture at 224 x 224 and 40 words, as in BalanceBenchmark."""

    name = family = "food101"
    protocol = "balance_benchmark"
    layout = "texts/train_titles.csv and test_titles.csv (image, title, class) and images/train|test/<class>/<image>"
    classes = class_names("food101")
    modalities: ClassVar[dict[str, Modality]] = {
        "image": rgb(
            (3, *SIZE),
            augment=(("rotate", {"degrees": 30}), ("flip", {"p": 0.5})),
        ),
        "text": Modality((LENGTH,), "text", {"vocabulary": VOCABULARY}, standardise=(), dtype="int32", normalise=None),
    }
    recipe: ClassVar[published.Recipe] = published.balance_benchmark()
    split = SplitRecipe("official", monitor=0.02, val=0.05)
    licence = "research use; pictures and titles of the web under their owners' terms"
    source = "X. Wang and others, ICME workshops 2015 (UPMC Food-101)"
    limits: ClassVar[tuple[str, ...]] = (
        "words are numbered by hash, not by BERT's vocabulary: published results with BERT are not comparable",
        "titles often name the dish: text is by far the stronger modality",
        "one query of a search engine per class: labels are noisy",
    )

    def annotations(self, source: Path) -> tuple[Path, ...]:
        return tuple(self.present(source / "texts" / f"{part}_titles.csv") for part in ("train", "test"))

    def items(self, source: Path) -> list[Item]:
        items = []
        for part, path in zip(("train", "test"), self.annotations(source), strict=True):
            for where, (image, title, kind) in csv_rows(path, 3):
                if image == HEADER:
                    continue
                label = self.label_of(kind, where)
                items.append(Item(image, label, part, files=(f"images/{part}/{kind}/{image}",), more=(cleaned(title),)))
        return items

    def load(self, source: Path, item: Item) -> dict[str, NDArray[Any]]:
        return {"image": self.sample("image", source / item.files[0]), "text": hashed(item.more[0], LENGTH)}

    def sample(self, modality: str, raw: Any) -> NDArray[Any]:
        """Take a picture; a title."""
        if modality == "image":
            return pictures.fitted(pictures.picture(raw), SIZE).transpose(2, 0, 1).copy()
        return hashed(cleaned(words(raw, "a title")), LENGTH)

    def miniature(self, folder: Path) -> None:
        (folder / "texts").mkdir()
        for part, each in (("train", 5), ("test", 1)):
            with (folder / "texts" / f"{part}_titles.csv").open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow((HEADER, "text", "label"))
                for label in (3, 36, 53, 76):
                    kind = self.classes[label]
                    for k in range(each):
                        image = f"{kind}_{part}{k}.jpg"
                        write_picture(folder / "images" / part / kind / image, scene(label, image, 1)[0])
                        words = kind.replace("_", " ")
                        rows.writerow((image, f"The best {words}, recipe no. {k} | http://food.example", kind))


def cleaned(title: str) -> str:
    """Return a title without web addresses and hash signs, as BalanceBenchmark has it."""
    return re.sub(r"https?://.*", "", re.sub(r"^RT\s+", "", title)).replace("#", "")

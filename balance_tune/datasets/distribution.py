"""A dataset as its authors give it away: a folder of files that is prepared once into a store.

A dataset file of this kind says which samples a folder holds (`items`) and how one of them is read (`load`); spreading
that over processes and machines, shards, hashes and going on after an interruption are `preparation`'s.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from balance_tune.datasets.base import Samples
from balance_tune.datasets.decoding import Decoding
from balance_tune.datasets.decoding import Unreadable as Unreadable
from balance_tune.datasets.manifest import Skipped
from balance_tune.errors import UserError


@dataclass(frozen=True)
class Item:
    """One sample of a distribution, not read yet.

    Attributes:
        sample: its name, unique in the distribution.
        label: its class, or one number a label or target.
        part: the official part it lies in, one of `PARTS`; "" where the split decides.
        group: who or what it is of (speaker, video), or "".
        files: what it is read from, relative to the source.
        more: what reading it needs beside (seconds, a sentence), as plain JSON.
        absent: the modalities that it does not have.
        together: names the set of samples that it must share a part with; "" for one by itself.
    """

    sample: str
    label: int | tuple[float, ...]
    part: str = ""
    group: str = ""
    files: tuple[str, ...] = ()
    more: tuple[Any, ...] = ()
    absent: tuple[str, ...] = ()
    together: str = ""


class Distribution(Decoding):
    """A dataset that is prepared from the folder its authors give away.

    Every way of preparing one (a `protocol`, or recipe, of the `family`) is a dataset of its own, so
    that shapes, splits and tasks belong to a name.
    """

    family: ClassVar[str]
    protocol: ClassVar[str]
    layout: ClassVar[str]
    """What the folder must hold, in words that end a sentence."""
    raw: ClassVar[Mapping[str, Any]] = {}
    """Of a user's table: what each modality is made from, as its recipe says; a store keeps it."""
    written: ClassVar[Mapping[str, Any]] = {}
    """Of a user's table: how its labels and numbers are written; a store keeps it."""
    left_out: ClassVar[tuple[Skipped, ...]] = ()
    """What the source lists and `items` leaves out, with reasons."""

    @abstractmethod
    def items(self, source: Path) -> list[Item]:
        """Return every sample in an order that never changes; sample files need not exist, annotations must.

        Args:
            source: the folder of the distribution.

        Raises:
            UserError: the folder does not hold what `layout` says, or contradicts itself.
        """

    def check_items(self, items: Sequence[Item]) -> None:
        """Check samples that can be listed, together.

        Args:
            items: all samples that would be prepared.

        Raises:
            UserError: they must not be prepared together.
        """

    @abstractmethod
    def load(self, source: Path, item: Item) -> dict[str, NDArray[Any]]:
        """Return one sample as it is to be stored: modality -> (*stored) in the modality's type, each by `sample`.

        Modalities that are `absent` from the item may be left out.

        Args:
            source: the folder of the distribution.
            item: which sample.

        Raises:
            Unreadable: one of its files is missing, broken, silent, ...
        """

    def where(self, item: Item, file: Path) -> str:
        """Return where the source names a file, in brackets behind a blank; "" where its name says all.

        Args:
            item: the sample.
            file: one of its files, or something else that could not be read.
        """
        return ""

    def remarks(self, items: Sequence[Item]) -> tuple[str, ...]:
        """Return what a reader of the results must know about these samples, beside `limits`.

        Args:
            items: the samples that were prepared.
        """
        return ()

    @abstractmethod
    def miniature(self, folder: Path) -> None:
        """Make a tiny distribution in `folder`, in the official layout and formats, the same every time.

        Args:
            folder: an empty folder.
        """

    def annotations(self, source: Path) -> tuple[Path, ...]:
        """Return the files that say what the samples are; they are hashed whole.

        Args:
            source: the folder of the distribution.
        """
        return ()

    def read(self) -> Samples:
        """Return every sample: refused, because a distribution is prepared, not read into memory.

        Raises:
            UserError: always; the line says how to prepare it.
        """
        raise UserError(f"dataset `{self.name}` must be prepared: {self.command()}.")

    def command(self) -> str:
        """Return the command that prepares it."""
        return f"balance-tune data prepare {self.family} --recipe {self.protocol} --source DIR"

    def missing(self, path: Path) -> UserError:
        """Return the error for something of the layout that is not there.

        Args:
            path: what is not there.
        """
        return UserError(f"the source of `{self.name}` must hold {self.layout}, but {path} does not exist.")

    def present(self, path: Path) -> Path:
        """Return `path` where it exists.

        Args:
            path: of a file or folder.

        Raises:
            UserError: it does not exist.
        """
        if not path.exists():
            raise self.missing(path)
        return path

    def label_of(self, name: str, where: str) -> int:
        """Return the index of a class.

        Args:
            name: a class, as an annotation spells it.
            where: file and line, for the message.

        Raises:
            UserError: there is no such class.
        """
        try:
            return self.classes.index(name)
        except ValueError:
            raise UserError(
                f"a class of `{self.name}` must be one of {shown(self.classes)}, but {where} says `{name}`."
            ) from None


def shown(names: tuple[str, ...], most: int = 8) -> str:
    """Return names for a message, the first of many."""
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")


def distribution(name: str, protocol: str | None = None) -> Distribution:
    """Return the dataset of a name, or of a family and the name of a recipe.

    Raises:
        UserError: there is none; the line lists those there are.
    """
    from balance_tune.registry import datasets, unknown

    distributions = {n: cls for n, cls in datasets().classes().items() if issubclass(cls, Distribution)}
    if protocol is None:
        if name not in distributions:
            if name in datasets().classes():
                raise UserError(f"dataset `{name}` needs no preparation: its data comes with the package.")
            raise unknown("a dataset to prepare", name, sorted(distributions))
        dataset: Distribution = distributions[name]()
        return dataset
    family = distributions[name].family if name in distributions else name
    recipes = {cls.protocol: cls for cls in distributions.values() if cls.family == family}
    if not recipes:
        raise unknown("a dataset to prepare", name, sorted(distributions))
    if protocol not in recipes:
        raise unknown(f"a recipe of {family}", protocol, sorted(recipes))
    chosen: Distribution = recipes[protocol]()
    return chosen

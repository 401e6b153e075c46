"""Splits: which rows are trained on, watched by methods, judged by the search, and kept sealed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from balance_tune.errors import UserError

PARTS = ("train", "monitor", "val", "test")
"""Train: fitted. Monitor: held out of training for methods to read. Val: search and epoch choice. Test: sealed."""


@dataclass(frozen=True)
class SplitRecipe:
    """How rows fall into `PARTS`: fractions and a seed, by class, by group, or as the data's authors decided.

    `stratified` gives every class its fractions, by largest remainder. `group` gives whole groups to a part, and
    counts groups, not rows. `official` takes `Samples.parts`; its `monitor` and `val` are the shares of the official
    training rows that go to these parts (none: they are official too), carved by class, or by whole groups.
    """

    kind: Literal["stratified", "group", "official"]
    train: float = 0.0
    monitor: float = 0.0
    val: float = 0.0
    test: float = 0.0
    seed: int = 0
    carve: Literal["class", "group"] = "class"

    def __post_init__(self) -> None:
        if self.kind not in ("stratified", "group", "official"):
            raise UserError(f"a split must be stratified, group or official, but got (kind={self.kind!r}).")
        if self.kind == "official":
            if self.train or self.test or min(self.monitor, self.val) < 0 or self.monitor + self.val >= 1:
                raise UserError(
                    "an official split may carve `monitor` and `val` out of its training rows, nothing else, but got "
                    f"(train={self.train}, monitor={self.monitor}, val={self.val}, test={self.test})."
                )
            return
        shown = ", ".join(f"{part}={getattr(self, part)}" for part in PARTS)
        if any(not 0 < share < 1 for share in self.fractions) or abs(sum(self.fractions) - 1) > 1e-9:
            raise UserError(f"the fractions of a split must be above 0 and sum to 1, but got ({shown}).")

    @property
    def fractions(self) -> tuple[float, ...]:
        """The shares of train, monitor, val and test."""
        return (self.train, self.monitor, self.val, self.test)

    @property
    def by_group(self) -> bool:
        """Whether a group lies in one part only."""
        return self.kind == "group" or (self.kind == "official" and self.carve == "group")

    @property
    def hash(self) -> str:
        """12 hexadecimal digits of the recipe alone; `split_hash` adds what came of it."""
        return _digest(self)

    def assign(
        self,
        labels: NDArray[Any],
        groups: NDArray[np.int64] | None = None,
        official: NDArray[np.int8] | None = None,
        together: NDArray[np.int64] | None = None,
        classes: Sequence[str] = (),
    ) -> NDArray[np.int8]:
        """Return each row's part (N,), an index into `PARTS`; the same arguments always give the same answer.

        Args:
            labels: (N,) classes, or (N, C).
            groups: (N,) who or what each row is of.
            official: (N,) the part that the data's authors gave each row.
            together: (N,) rows with the same number go to one part, by the label of the first of them.
            classes: names of the classes, for messages.

        Raises:
            UserError: groups or official parts are needed and missing, a part would be empty, or a class would have no
                training row.
        """
        if together is not None and groups is not None and self.by_group:
            groups = connected(groups, together)
        if self.kind == "stratified":
            assignment = self._by_class(labels, self.fractions, together)
        elif self.kind == "group":
            if groups is None:
                raise UserError("a split by group needs `groups` (speaker, subject, video), but the data has none.")
            assignment = self._by_group(groups, self.fractions)
        else:
            if official is None:
                raise UserError("an official split needs `parts`, one a sample, but the data has none.")
            if not ((official >= 0) & (official < len(PARTS))).all():
                raise UserError(
                    f"official parts must be 0 to {len(PARTS) - 1}, but got {official.min()} to {official.max()}."
                )
            assignment = self._carved(labels, groups, official.astype(np.int8, copy=True), together)
        _check_filled(labels, assignment, classes)
        if self.by_group:
            check_leaks(assignment, groups)
        return assignment

    def _carved(
        self,
        labels: NDArray[Any],
        groups: NDArray[np.int64] | None,
        assignment: NDArray[np.int8],
        together: NDArray[np.int64] | None,
    ) -> NDArray[np.int8]:
        shares = {name: share for name in ("monitor", "val") if (share := getattr(self, name))}
        for name in shares:
            if (assignment == PARTS.index(name)).any():
                raise UserError(f"a part must be official or carved, but `{name}` is both.")
        if not shares:
            return assignment
        rows = np.flatnonzero(assignment == 0)
        assignment[rows] = self.carve_rows(
            labels[rows], None if groups is None else groups[rows], None if together is None else together[rows]
        )
        return assignment

    def carve_rows(
        self, labels: NDArray[Any], groups: NDArray[np.int64] | None, together: NDArray[np.int64] | None = None
    ) -> NDArray[np.int8]:
        """Return the part (N,) of training rows of an official split: train, monitor or val, by class or whole groups.

        Args:
            labels: (N,) classes, or (N, C).
            groups: (N,) who or what each row is of.
            together: (N,) rows with the same number go to one part, by the label of the first of them.

        Raises:
            UserError: groups are needed and missing.
        """
        if self.carve == "group" and groups is None:
            raise UserError("a split carved by group needs `groups` (speaker, subject, video), but the data has none.")
        whole = len(labels) if self.carve == "class" or groups is None else len(np.unique(groups))
        least = 1 / max(whole, 4)  # of few groups, too, one goes to each part that is carved
        monitor, val = (max(share, least) if share else 0.0 for share in (self.monitor, self.val))
        fractions = (1 - monitor - val, monitor, val, 0.0)
        if self.carve == "group" and groups is not None:
            return self._by_group(groups, fractions)
        return self._by_class(labels, fractions, together)

    def _by_class(
        self, labels: NDArray[Any], fractions: tuple[float, ...], together: NDArray[np.int64] | None = None
    ) -> NDArray[np.int8]:
        if together is not None:
            _, first, which = np.unique(together, return_index=True, return_inverse=True)
            return self._by_class(labels[first], fractions)[which]
        if labels.ndim > 1:  # several labels, or quantities: rows are alike
            labels = np.zeros(len(labels), dtype=np.int64)
        generator = np.random.Generator(np.random.PCG64(self.seed))
        assignment = np.empty(len(labels), dtype=np.int8)
        owed = np.zeros(len(PARTS))
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            counts = apportion(len(rows), fractions, owed)
            # without this a small part would get nothing from any of many small classes
            owed += np.array(fractions) * len(rows) - counts
            assignment[generator.permutation(rows)] = np.repeat(np.arange(len(PARTS)), counts)
        return assignment

    def _by_group(self, groups: NDArray[np.int64], fractions: tuple[float, ...]) -> NDArray[np.int8]:
        generator = np.random.Generator(np.random.PCG64(self.seed))
        names, index = np.unique(groups, return_inverse=True)
        part_of = np.empty(len(names), dtype=np.int8)
        counts = apportion(len(names), fractions, np.zeros(len(PARTS)))
        part_of[generator.permutation(len(names))] = np.repeat(np.arange(len(PARTS)), counts)
        return part_of[index]


def apportion(n: int, fractions: tuple[float, ...], owed: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return whole counts that sum to `n`, each its exact share rounded down or up, by largest remainder.

    What is owed decides which share is rounded up.

    Args:
        n: the sum.
        fractions: shares that sum to 1.
        owed: (shares,), what earlier calls left each share short of.
    """
    exact = np.round(n * np.array(fractions), 9)  # 300 / 15 is 20, also in floating point
    counts = np.floor(exact).astype(np.int64)
    remainder = exact - counts
    claim = np.where(remainder > 0, remainder + owed, -np.inf)
    counts[np.argsort(-claim, kind="stable")[: n - counts.sum()]] += 1
    return counts


def connected(groups: NDArray[np.int64], together: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return groups (N,) in which those that share a number of `together` (N,) have become one, the lowest of them."""
    joined = groups.copy()
    while True:
        lowest = np.full(int(together.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(lowest, together, joined)
        of_group = np.full(int(groups.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(of_group, groups, lowest[together])
        if np.array_equal(of_group[groups], joined):
            return joined
        joined = of_group[groups]


def check_leaks(assignment: NDArray[np.int8], groups: NDArray[np.int64] | None) -> None:
    """Raise a `UserError` when a group has rows in two parts."""
    if groups is None:
        return
    pairs = np.unique(np.stack([groups, assignment.astype(np.int64)]), axis=1)
    names, counts = np.unique(pairs[0], return_counts=True)
    if (counts > 1).any():
        shared = int(names[counts > 1][0])
        where = ", ".join(PARTS[part] for part in pairs[1][pairs[0] == shared])
        raise UserError(f"a group must lie in one part, but group {shared} lies in {where}.")


def split_hash(recipe: SplitRecipe, assignment: NDArray[np.int8]) -> str:
    """Return 12 hexadecimal digits of the recipe and of every row's part."""
    return _digest(recipe, assignment.astype(np.int8).tobytes())


def redrawn_hash(base: str, seed: int) -> str:
    """Return 12 hexadecimal digits of the split that is drawn anew with this seed from one with the hash `base`."""
    return hashlib.sha256(f"{base}/{seed}".encode()).hexdigest()[:12]


def _digest(recipe: SplitRecipe, more: bytes = b"") -> str:
    fields = dataclasses.asdict(recipe)
    if recipe.carve == "class":  # what there was before there was a choice keeps its hash
        del fields["carve"]
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode() + more).hexdigest()[:12]


def _check_filled(labels: NDArray[Any], assignment: NDArray[np.int8], classes: Sequence[str]) -> None:
    counts = np.bincount(assignment, minlength=len(PARTS))
    if (counts == 0).any():
        shown = ", ".join(f"{part}={n}" for part, n in zip(PARTS, counts, strict=True))
        raise UserError(f"every part of a split needs a row, but got ({shown}); give more data or other fractions.")
    if labels.ndim > 1:
        return
    untrained = np.setdiff1d(labels, labels[assignment == 0])
    if len(untrained):
        names = [f"`{classes[k]}`" if len(classes) > k else str(k) for k in untrained.tolist()]
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise UserError(
            f"every class needs a training row, but {'class' if len(names) == 1 else 'classes'} {shown} "
            f"{'has' if len(names) == 1 else 'have'} none."
        )

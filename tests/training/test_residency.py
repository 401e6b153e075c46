"""Where data lies follows from its size, what is asked, and what is free."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from balance_tune.datasets.store import build_store, open_store
from balance_tune.errors import UserError
from balance_tune.training.residency import available_memory, choose, opened
from tests.datasets.tiny import Tiny

G = 2**30


@pytest.mark.parametrize(
    ("asked", "nbytes", "device_free", "memory_free", "expected"),
    [
        ("auto", 4 * G, 80 * G, 500 * G, "device"),
        ("auto", 40 * G, 80 * G, 500 * G, "memory"),
        ("auto", 400 * G, 80 * G, 500 * G, "mapped"),
        ("auto", G // 8, G // 8, 500 * G, "mapped"),  # small files lie in the page cache anyway
        ("auto", 1, None, 500 * G, "mapped"),
        ("device", 70 * G, 80 * G, 1, "device"),
        ("device", 1, None, 1, "mapped"),  # the CPU is the device
        ("memory", 4 * G, 80 * G, 8 * G, "memory"),
        ("mapped", 1, 80 * G, 8 * G, "mapped"),
    ],
)
def test_data_lies_where_there_is_room_and_it_pays(
    asked: str, nbytes: int, device_free: int | None, memory_free: int, expected: str
) -> None:
    assert choose(asked, nbytes, device_free=device_free, memory_free=memory_free) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("gpu", "`data.residency` must be one of auto, device, memory, mapped, but got `gpu`"),
        ("device", r"needs room for 9\.0 GiB of data, but 8\.0 GiB of the device are free"),
        ("memory", r"needs room for 9\.0 GiB of data, but 4\.0 GiB are free"),
    ],
)
def test_what_cannot_be_is_one_line(asked: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose(asked, 9 * G, device_free=8 * G, memory_free=4 * G)


def test_a_process_opens_a_store_once_and_a_copy_in_memory_holds_the_same(tmp_path: Path) -> None:
    build_store(Tiny(), tmp_path / "tiny")
    store = str(tmp_path / "tiny")
    mapped, copied = (opened(store, "cpu", asked) for asked in ("auto", "memory"))
    assert opened(store, "cpu", "auto") is mapped
    assert set(mapped.parts) == {"train", "monitor", "val"}
    shared = open_store(tmp_path / "tiny").parts["train"].inputs["a"]
    assert mapped.parts["train"].inputs["a"].data_ptr() == shared.data_ptr()
    assert copied.parts["train"].inputs["a"].data_ptr() != shared.data_ptr()
    assert torch.equal(copied.parts["train"].inputs["a"], shared)


def test_there_is_memory_on_this_machine() -> None:
    assert available_memory() > 0

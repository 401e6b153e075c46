from pathlib import Path

import numpy as np
import pytest
import torch

from balance_tune.datasets.base import Modality
from balance_tune.datasets.sharded import LARGE, Sharded
from balance_tune.datasets.shards import open_shards, write_shard

SMALL, BIG = (3,), (LARGE,)


@pytest.mark.parametrize("shape", [SMALL, BIG])
def test_rows_of_several_files_read_as_those_of_one(shape: tuple[int, ...]) -> None:
    whole = torch.randint(0, 255, (10, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sharded = Sharded([whole[:4], whole[4:5], whole[5:]])
    rows = torch.tensor([9, 0, 4, 3, 5, 5])
    assert torch.equal(sharded[rows], whole[rows])
    assert torch.equal(sharded[1::3], whole[1::3])
    assert all(torch.equal(sharded[row], whole[row]) for row in range(10))
    assert torch.equal(sharded.to("cpu"), whole)
    assert (len(sharded), sharded.shape, sharded.dtype, sharded.nbytes) == (10, (10, *shape), torch.uint8, whole.nbytes)


def test_rows_can_be_read_into_a_buffer_that_is_used_again() -> None:
    sharded = Sharded([torch.arange(6).view(3, 2), torch.arange(6, 10).view(2, 2)])
    out = torch.empty(2, 2, dtype=torch.int64)
    assert sharded.gather(torch.tensor([4, 0]), out) is out
    assert out.tolist() == [[8, 9], [0, 1]]


@pytest.mark.parametrize("row", [-1, 5])
def test_a_row_that_does_not_exist_is_told(row: int) -> None:
    with pytest.raises(IndexError, match="from 0 to 4"):
        Sharded([torch.zeros(3, 2), torch.zeros(2, 2)])[torch.tensor([row])]
    with pytest.raises(IndexError, match="from 0 to 4"):
        Sharded([torch.zeros(3, 2), torch.zeros(2, 2)])[row]


def test_a_part_in_several_files_is_one_part(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.float16).reshape(6, 4)
    shards = [
        write_shard(tmp_path / f"{k}.arrow", {"x": x[rows]}, np.arange(6)[rows], np.arange(6)[rows], None)
        for k, rows in enumerate((slice(0, 4), slice(4, 6)))
    ]
    part = open_shards(tmp_path, shards, {"x": Modality((4,), "mlp", dtype="float16", normalise=None)})
    assert part.labels.tolist() == part.rows.tolist() == list(range(6))
    assert part.take("x", torch.tensor([5, 0])).tolist() == x[[5, 0]].tolist()
    assert part.groups is None

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from balance_tune.datasets.base import Modality
from balance_tune.datasets.shards import Part, open_shard, write_shard
from balance_tune.errors import UserError

X = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
MODALITIES = {"x": Modality((2, 3), "mlp")}


def written(path: Path) -> Part:
    shard = write_shard(path, {"x": X}, np.arange(4), np.arange(4) + 10, np.arange(4) // 2)
    return open_shard(path, shard, MODALITIES)


def test_a_shard_reads_back_as_it_was_written(tmp_path: Path) -> None:
    part = written(tmp_path / "part.arrow")
    assert part.inputs["x"].tolist() == X.tolist()
    assert part.labels.tolist() == [0, 1, 2, 3]
    assert part.rows.tolist() == [10, 11, 12, 13]
    assert part.groups is not None
    assert part.groups.tolist() == [0, 0, 1, 1]
    assert len(part) == 4


@pytest.mark.filterwarnings("error")
def test_a_write_to_a_tensor_reaches_neither_the_file_nor_another_process(tmp_path: Path) -> None:
    path = tmp_path / "part.arrow"
    part = written(path)
    before = path.read_bytes()
    part.inputs["x"].add_(1)
    assert path.read_bytes() == before


def test_tensors_outlive_the_file(tmp_path: Path) -> None:
    part = written(tmp_path / "part.arrow")
    (tmp_path / "part.arrow").unlink()
    assert part.inputs["x"].sum() == X.sum()


def test_the_file_is_plain_arrow_that_others_can_read(tmp_path: Path) -> None:
    written(tmp_path / "part.arrow")
    table = pa.ipc.open_file(tmp_path / "part.arrow").read_all()
    assert table.column_names == ["x", "label", "row", "group"]
    assert isinstance(table.schema.field("x").type, pa.FixedShapeTensorType)
    assert table["x"].combine_chunks().to_numpy_ndarray().tolist() == X.tolist()


def test_a_shard_of_another_shape_is_told(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "part.arrow", {"x": X}, np.arange(4), np.arange(4), None)
    with pytest.raises(UserError, match=r"part\.arrow cannot be read"):
        open_shard(tmp_path / "part.arrow", shard, {"x": Modality((7,), "mlp")})
    with pytest.raises(UserError, match=r"part\.arrow cannot be read"):
        open_shard(tmp_path / "part.arrow", shard, {"y": Modality((2, 3), "mlp")})


def test_a_shard_without_groups_has_none(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "part.arrow", {"x": X}, np.arange(4), np.arange(4), None)
    part = open_shard(tmp_path / "part.arrow", shard, MODALITIES)
    assert part.groups is None
    assert part.inputs["x"].dtype == torch.float32

"""The official lists in the forms in which they are published, and by the names that mirrors give them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from balance_tune.datasets.ave import HEADER, Ave
from balance_tune.datasets.crema_d import CremaD, CremaDMlb
from balance_tune.datasets.kinetics_sounds import KineticsSounds
from balance_tune.datasets.miniature import write_picture
from balance_tune.datasets.preparation_plan import plan_of
from balance_tune.datasets.store import open_store
from balance_tune.datasets.ucf101 import Ucf101, Ucf101Sound
from balance_tune.datasets.vggsound import VggSound
from balance_tune.errors import UserError
from balance_tune.studies.data.prepare import prepare
from balance_tune.testing.distributions import prepared


def test_kinetics_sounds_is_split_by_the_file_that_has_three_parts(tmp_path: Path) -> None:
    KineticsSounds().miniature(tmp_path)
    listed = KineticsSounds().items(tmp_path)
    database = json.loads((tmp_path / "KS_train_val.json").read_text())
    two = {name: entry for name, entry in database["database"].items() if entry["subset"] != "testing"}
    (tmp_path / "KS.json").write_text(json.dumps({**database, "database": two}))
    assert KineticsSounds().items(tmp_path) == listed
    (tmp_path / "KS_train_val.json").unlink()
    with pytest.raises(UserError, match=r"lists none of testing; BML's split into three parts is KS_train_val\.json"):
        KineticsSounds().items(tmp_path)


@pytest.mark.parametrize("name", ["validate.csv", "val.csv", "validation.csv"])
def test_kinetics_own_lists_have_the_names_of_its_mirrors(tmp_path: Path, name: str) -> None:
    KineticsSounds().miniature(tmp_path)
    listed = KineticsSounds().items(tmp_path)
    database = json.loads((tmp_path / "KS_train_val.json").read_text())["database"]
    (tmp_path / "KS_train_val.json").unlink()
    for subset, file in (("training", "train.csv"), ("validation", name), ("testing", "test.csv")):
        with (tmp_path / file).open("w", newline="") as opened:
            rows = csv.writer(opened)
            rows.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
            for video, entry in database.items():
                if entry["subset"] == subset:
                    rows.writerow((entry["label"].replace("_", " "), video[:11], 0, 3, name))
    assert KineticsSounds().items(tmp_path) == listed


def test_a_list_may_begin_with_the_header_of_its_format(tmp_path: Path) -> None:
    for dataset, file, header in (
        (Ave(), "trainSet.txt", HEADER),
        (CremaD(), "train.csv", "clip,label"),
        (VggSound(), "vggsound.csv", "id,start,label,split"),
    ):
        source = tmp_path / dataset.name
        source.mkdir()
        dataset.miniature(source)
        listed = dataset.items(source)
        path = source / file
        path.write_text(f"{header}\n{path.read_text('utf-8-sig')}")
        assert dataset.items(source) == listed


def test_a_vggsound_video_that_is_listed_again_counts_once(tmp_path: Path) -> None:
    VggSound().miniature(tmp_path)
    listed = VggSound().items(tmp_path)
    path = tmp_path / "vggsound.csv"
    first, *_ = path.read_text().splitlines()
    path.write_text(path.read_text() + f"{first}\n")
    assert VggSound().items(tmp_path) == listed
    path.write_text(path.read_text() + first.replace(",train", ",test") + "\n")
    with pytest.raises(UserError, match=r"a video must be listed once.*line 1 of .*line 26 of"):
        VggSound().items(tmp_path)


def test_companion_files_of_macos_are_passed_over(tmp_path: Path) -> None:
    for dataset in (CremaDMlb(), VggSound()):
        source = tmp_path / dataset.name
        source.mkdir()
        dataset.miniature(source)
        listed = dataset.items(source)
        for item in listed:
            file = source / item.files[0]
            file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
        assert dataset.items(source) == listed


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", b"<html>"])
def test_files_that_were_not_downloaded_are_named_and_no_higher_share_is_advised(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "source").mkdir()
    CremaD().miniature(tmp_path / "source")
    for item in CremaD().items(tmp_path / "source")[::2]:
        (tmp_path / "source" / item.files[0]).write_bytes(content)
    with pytest.raises(UserError, match=r"it is a (git-lfs pointer|web page)") as caught:
        prepare(CremaD(), tmp_path / "source", tmp_path / "store")
    assert "--max-corrupt" not in str(caught.value)


def flows(source: Path, clips: list[str]) -> None:
    for clip in clips:
        for axis in "uv":
            for k in range(7):
                path = source / "tvl1_flow" / axis / clip / f"frame{k:06d}.jpg"
                write_picture(path, np.full((24, 32), 77, dtype=np.uint8))


def handstand(source: Path) -> None:
    """Add the class whose flow is published by another spelling than its videos."""
    Ucf101().miniature(source)
    kind = source / "UCF-101" / Ucf101.classes[0]
    (source / "UCF-101" / "HandstandPushups").mkdir()
    for file in sorted(kind.iterdir()):
        group = file.stem.split("_")[2]
        name = f"v_HandStandPushups_{group}_c01.avi"
        (source / "UCF-101" / "HandstandPushups" / name).write_bytes(file.read_bytes())
        part = "test" if group == "g01" else "train"
        with (source / "ucfTrainTestlist" / f"{part}list01.txt").open("a") as lines:
            lines.write(f"HandstandPushups/{name} 37\n")


def test_flow_is_found_whatever_the_case_of_its_folder(tmp_path: Path) -> None:
    handstand(tmp_path)
    clips = [item.sample for item in Ucf101().items(tmp_path)]
    flows(tmp_path, [clip.replace("HandStand", "Handstand") for clip in clips])
    items = Ucf101().items(tmp_path)
    assert all(len(item.files) == 3 for item in items)
    assert plan_of(Ucf101(), tmp_path).dataset.remarks(items) == (
        "flow of 25 clips is published (TV-L1), of 0 computed (dense inverse search)",
    )
    assert sum("HandStand" in item.sample for item in Ucf101Sound().items(tmp_path)) == 5


def test_a_class_whose_flow_alone_is_computed_is_refused(tmp_path: Path) -> None:
    handstand(tmp_path)
    flows(tmp_path, [i.sample for i in Ucf101().items(tmp_path) if "HandStand" not in i.sample])
    with pytest.raises(UserError, match="u and v have none of HandstandPushups; add it, or move tvl1_flow away"):
        plan_of(Ucf101(), tmp_path)


def test_a_store_of_both_kinds_of_flow_says_how_many_of_each(tmp_path: Path) -> None:
    Ucf101().miniature(tmp_path)
    clips = [item.sample for item in Ucf101().items(tmp_path)]
    flows(tmp_path, [clip for clip in clips if "_g03_" not in clip])
    folder = prepared(Ucf101(), tmp_path, tmp_path / "store")
    limits = open_store(folder).manifest.limits
    assert limits[-1] == "flow of 16 clips is published (TV-L1), of 4 computed (dense inverse search)"

"""The study's journal and its export."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import optuna
import pytest

from balance_tune.errors import UserError
from balance_tune.studies.storage import durable
from balance_tune.studies.storage.database import connect
from balance_tune.studies.storage.files import JOURNAL
from balance_tune.studies.storage.records import read_records
from balance_tune.studies.storage.study_folder import StudyFolder
from balance_tune.studies.storage.trials import export, open_storage, set_attrs, together
from tests.studies.toy import ToyStudy, toy_config


def test_a_line_that_a_crash_cut_off_is_dropped_and_the_study_goes_on(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    study.play(20)
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"op_code": 7, "worker')
    study.reopen()
    study.play()
    assert all(r.finished for r in read_records(tmp_path))


def test_a_damaged_journal_is_one_line_that_names_it(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path, toy_config(datasets=["d1"], methods=["joint"]))
    study.play(20)
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_text("".join([*lines[:5], "rubbish\n", *lines[5:]]))
    with pytest.raises(UserError, match=JOURNAL) as caught:
        open_storage(StudyFolder(tmp_path))
    assert "\n" not in str(caught.value)


def test_optuna_itself_opens_the_journal(tmp_path: Path) -> None:
    ToyStudy(tmp_path).play()
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / JOURNAL)))
    assert "d1/joint" in optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name="d1/joint", storage=storage)
    assert len(study.trials) == 5


def test_what_is_read_from_memory_is_what_the_file_holds(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path)
    study.play()
    mine, afresh = study.queue._storage, open_storage(StudyFolder(tmp_path))
    for frozen in afresh.get_all_studies():
        there = [t.__dict__ for t in afresh.get_all_trials(frozen._study_id)]
        assert [t.__dict__ for t in mine.get_all_trials(frozen._study_id)] == there


def counted_writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what will hold the lines of each write from now on."""
    writes: list[int] = []
    append = durable.append

    def counted(file: IO[bytes], text: str, *, sync: bool = True) -> None:
        writes.append(text.count("\n"))
        append(file, text, sync=sync)

    monkeypatch.setattr(durable, "append", counted)
    return writes


def test_attributes_are_one_write_and_all_or_nothing_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(StudyFolder(tmp_path))
    trial = optuna.create_study(storage=storage).ask()
    append = durable.append

    def full(file: IO[bytes], text: str, *, sync: bool = True) -> None:
        raise OSError(28, "No space left on device")

    writes = counted_writes(monkeypatch)
    set_attrs(storage, trial._trial_id, {"epochs": 3, "metrics": {"val/accuracy": 0.5}, "seed": (1, 2)})
    assert writes == [3]
    known = {"epochs": 3, "metrics": {"val/accuracy": 0.5}, "seed": [1, 2]}
    assert storage.get_trial(trial._trial_id).user_attrs == known
    monkeypatch.setattr(durable, "append", full)
    with pytest.raises(OSError, match="No space"):
        set_attrs(storage, trial._trial_id, {"epochs": 4, "more": 1})
    monkeypatch.setattr(durable, "append", append)
    set_attrs(storage, trial._trial_id, {"after": 1})
    assert storage.get_trial(trial._trial_id).user_attrs == known | {"after": 1}
    assert open_storage(StudyFolder(tmp_path)).get_trial(trial._trial_id).user_attrs == known | {"after": 1}


def test_what_is_set_in_a_block_is_one_write_at_the_end_of_the_outermost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(StudyFolder(tmp_path))
    trial = optuna.create_study(storage=storage).ask()
    writes = counted_writes(monkeypatch)
    with together(storage):
        storage.set_trial_intermediate_value(trial._trial_id, 1, 0.25)
        set_attrs(storage, trial._trial_id, {"lost": 1})
        storage.set_trial_intermediate_value(trial._trial_id, 2, 0.5)
        assert writes == []
    assert writes == [3]
    for known in (storage, open_storage(StudyFolder(tmp_path))):
        frozen = known.get_trial(trial._trial_id)
        assert (frozen.intermediate_values, frozen.user_attrs) == ({1: 0.25, 2: 0.5}, {"lost": 1})


def test_an_export_holds_the_same_trials(tmp_path: Path) -> None:
    study = ToyStudy(tmp_path / "toy")
    study.play()
    export(open_storage(StudyFolder(tmp_path / "toy")), tmp_path / "toy.sqlite3")
    there = read_records(f"sqlite:///{tmp_path}/toy.sqlite3")
    here = read_records(tmp_path / "toy")
    assert [(r.arm, r.number, r.state, r.value, dict(r.curve), dict(r.attrs)) for r in there] == [
        (r.arm, r.number, r.state, r.value, dict(r.curve), dict(r.attrs)) for r in here
    ]


def test_an_export_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "out.sqlite3").write_text("mine")
    with pytest.raises(UserError, match="must not overwrite"):
        export(open_storage(StudyFolder(tmp_path)), tmp_path / "out.sqlite3")


def test_a_database_that_does_not_answer_is_one_line_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        connect(f"sqlite:///{tmp_path}/no/such/folder/x.db?password=secret123")
    assert "secret123" not in str(caught.value)
    assert "\n" not in str(caught.value)

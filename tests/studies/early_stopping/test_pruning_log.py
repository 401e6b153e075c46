"""The pruning log on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balance_tune.errors import UserError
from balance_tune.studies.early_stopping.pruning_log import Decision, PruningLog

GO = Decision(number=0, epoch=3, value=0.5, threshold=None, rank=1, of=1, stop=False)
STOP = Decision(number=1, epoch=3, value=0.25, threshold=0.5, rank=2, of=2, stop=True)


def test_decisions_are_read_back_in_order_by_arm(tmp_path: Path) -> None:
    pruning_log = PruningLog(tmp_path / "ledger.jsonl")
    pruning_log.append("d/a", GO)
    pruning_log.append("d/b", STOP)
    pruning_log.append("d/a", STOP)
    again = PruningLog(tmp_path / "ledger.jsonl")
    assert again.of_arm("d/a") == (GO, STOP)
    assert again.of_arm("d/b") == (STOP,)
    assert again.of_arm("d/c") == ()
    assert again.stop_of("d/a", 1) == STOP
    assert again.stop_of("d/a", 0) is None


def test_a_line_that_a_crash_cut_off_is_dropped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    PruningLog(path).append("d/a", GO)
    with path.open("a") as file:
        file.write('{"arm": "d/a", "num')
    pruning_log = PruningLog(path)
    assert pruning_log.of_arm("d/a") == (GO,)
    pruning_log.append("d/a", STOP)
    assert PruningLog(path).of_arm("d/a") == (GO, STOP)


VERDICT = {"arm": "d/a", "number": 1, "epoch": 3, "value": 0.5, "threshold": None, "rank": 1, "of": 2, "decision": "go"}
OTHERWISE = [json.dumps({**VERDICT, key: wrong}) + "\n" for key in VERDICT for wrong in ([], {}) if key != "decision"]


@pytest.mark.parametrize("damage", ["not json\n", '{"arm": "d/a"}\n', "[1]\n", *OTHERWISE])
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(damage)
    with pytest.raises(UserError, match=r"ledger\.jsonl") as caught:
        PruningLog(path)
    assert "\n" not in str(caught.value)

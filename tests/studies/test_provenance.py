"""What a study's numbers come from."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from balance_tune.studies import provenance
from tests.studies.toy import toy_config

CONFIG = toy_config(datasets=["av_digits"], methods=["joint"])


def test_code_is_hashed_alike_every_time() -> None:
    assert provenance.code_of(CONFIG) == provenance.code_of(CONFIG)
    assert list(provenance.code_of(CONFIG)) == ["balance_tune"]


def test_somebody_elses_method_is_hashed_by_the_file_it_is_written_in(monkeypatch: pytest.MonkeyPatch) -> None:
    class TheirMethod:
        pass

    monkeypatch.setattr(provenance, "modulations", lambda: SimpleNamespace(get=lambda name: TheirMethod))
    (name,) = provenance.code_of(CONFIG).keys() - {"balance_tune"}
    assert name.startswith("method ")
    assert name.endswith("TheirMethod")

"""OPM and OGM together are OPM's forward pass and OGM's backward pass, on one set of scores."""

from __future__ import annotations

import torch

from balance_tune.testing.tiny import tiny_run
from tests.modulations.one_step import update

SETTINGS = {"batch_size": 22, "momentum": 0.0, "weight_decay": 0.0}


def test_its_update_is_opms_with_encoders_scaled_by_ogms_coefficients() -> None:
    opm, both = ({"start": 0.0, "p_exe": 1.0}, {"start": 0.0, "p_exe": 1.0, "policy": "encoder"})
    plain = update(tiny_run("opm", opm, **SETTINGS)[0])
    run, _ = tiny_run("opm_ogm", both, **SETTINGS)
    changed, logged = update(run), run.context.logged()
    assert any(logged[f"modulation/k/{m}"] < 1 for m in ("audio", "image"))
    for name, delta in plain.items():
        k = logged[f"modulation/k/{name.split('.')[1]}"] if name.startswith("encoders") else 1.0
        assert torch.allclose(changed[name], k * delta, rtol=1e-5, atol=1e-10), name


def test_scores_of_both_are_taken_before_dropping() -> None:
    ogm, both = tiny_run("ogm", **SETTINGS)[0], tiny_run("opm_ogm", {"start": 0.0, "p_exe": 1.0}, **SETTINGS)[0]
    update(ogm)
    update(both)
    expected, found = ogm.context.logged(), both.context.logged()
    assert all(abs(found[name] - value) < 1e-9 for name, value in expected.items())


def test_after_ogm_end_only_opm_is_left() -> None:
    run, _ = tiny_run("opm_ogm", {"start": 0.0, "ogm_end": 0.5}, epochs=4)
    run.context.epoch = 3
    update(run)
    logged = run.context.logged()
    assert "modulation/q/audio" in logged
    assert "modulation/k/audio" not in logged

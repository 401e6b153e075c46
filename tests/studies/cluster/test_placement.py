"""What a trial's actor takes of a node."""

from __future__ import annotations

from balance_tune.studies.cluster.placement import place

HEAD = "head"


def test_a_trial_of_one_worker_takes_its_own_cpus_and_gpus() -> None:
    assert place({}, cpus=2, gpus=0.25, workers=1, head=HEAD).bundles == [{"CPU": 2, "GPU": 0.25}]
    own = {"cpus": 4, "gpus": 1.0}
    assert place(own, cpus=2, gpus=0.25, workers=1, head=HEAD).bundles == [{"CPU": 4, "GPU": 1.0}]


def test_where_no_gpu_is_used_none_is_asked_for() -> None:
    assert place({}, cpus=1, gpus=0.0, workers=1, head=HEAD).bundles == [{"CPU": 1}]
    assert place({"gpus": 0.0}, cpus=1, gpus=1.0, workers=1, head=HEAD).bundles == [{"CPU": 1}]


def test_the_actor_of_several_workers_only_waits_on_the_head() -> None:
    (bundle,) = place({"cpus": 4}, cpus=4, gpus=1.0, workers=2, head=HEAD).bundles
    assert list(bundle) == [HEAD]
    assert 0 < bundle[HEAD] <= 0.001


def test_equal_resources_are_one_object_which_tune_compares_faster() -> None:
    first, second = (place({"number": n}, cpus=1, gpus=0.5, workers=1, head=HEAD) for n in range(2))
    assert first is second

"""The guard's judgement, and the baseline that it judges by."""

from bench.guard import complaints, read_baseline

BASELINE = {"tolerance": 0.4, "ratios": {"core": 1.0, "calls": 2.0}}


def test_what_is_within_the_tolerance_passes() -> None:
    assert complaints({"core": 1.39, "calls": 0.5}, BASELINE) == []


def test_what_became_too_dear_is_named_with_the_way_out() -> None:
    (told,) = complaints({"core": 1.41, "calls": 2.0}, BASELINE)
    assert told.startswith("core: 1.410 where 1.000 was the baseline, +41%")
    assert "--write" in told


def test_what_the_baseline_does_not_know_does_not_pass() -> None:
    (told,) = complaints({"store": 1.0}, BASELINE)
    assert told.startswith("store: not in the baseline")


def test_the_committed_baseline_has_every_measure() -> None:
    baseline = read_baseline()
    assert 0.3 <= baseline["tolerance"] <= 1
    core = {"core, success", "core, rollback", "log, read back"}
    assert {*core, "journal", "calls, unary", "calls, worker"} == set(baseline["ratios"])
    assert all(ratio > 0 for ratio in baseline["ratios"].values())

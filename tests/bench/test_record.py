"""The harness's arithmetic, and what it writes down."""

import json
from dataclasses import asdict
from pathlib import Path

from bench.record import Record, Sample, Shape, not_measured, percentile, read, summarise, write_section

SHAPE = Shape("success", 2, 64)


def sample(rate: float, **more: float) -> Sample:
    return Sample(round(rate * 2), 2.0, 5.0, 9.0, **more)  # type: ignore[arg-type]


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([], 0.5) == 0.0


def test_the_ratio_is_of_the_same_round() -> None:
    # The machine was twice as slow in the second round, for both: each round says one half.
    record = summarise("ours", SHAPE, [sample(500), sample(250)], [sample(1000), sample(500)])
    assert record.ratio_to_relay == record.ratio_to_relay_low == record.ratio_to_relay_high == 0.5
    assert (record.sagas_per_second, record.sagas_per_second_low, record.sagas_per_second_high) == (
        375.0,
        250.0,
        500.0,
    )


def test_a_system_without_a_relay_has_no_ratio() -> None:
    record = summarise("ours", SHAPE, [sample(500)], None)
    assert record.ratio_to_relay is None
    assert record.ratio_to_relay_low is None


def test_costs_are_medians_of_what_is_known() -> None:
    samples = [sample(10, commits=3.0), sample(10, commits=1.0), sample(10, commits=2.0)]
    record = summarise("ours", SHAPE, samples)
    assert record.commits_per_saga == 2.0
    assert record.wal_bytes_per_saga is None


def test_the_file_has_what_a_reader_looks_for(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    records = [
        summarise("ours", SHAPE, [sample(500)], [sample(1000)]),
        not_measured("peer", SHAPE, "needs node"),
    ]
    write_section("systems", records, {"cores": 2}, path)
    first, second = json.loads(path.read_text())["systems"]["measured"]
    wanted = {"system": "ours", "shape": "success", "steps": 2, "concurrency": 64, "sagas_per_second": 500.0}
    assert wanted.items() <= first.items()
    assert (first["p50_ms"], first["p99_ms"], first["ratio_to_relay"]) == (5.0, 9.0, 0.5)
    assert (second["sagas_per_second"], second["reason"]) == (None, "needs node")


def test_a_section_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    write_section("floors", [{"floor": "commits"}], {}, path)
    write_section("growth", {"throughput": [Record("ours", "success", 2, 64, 1)]}, {}, path)
    write_section("floors", [{"floor": "journal"}], {}, path)
    found = read(path)
    assert found["floors"]["measured"] == [{"floor": "journal"}]
    assert found["growth"]["measured"]["throughput"] == [asdict(Record("ours", "success", 2, 64, 1))]

"""The relay, its participant and the load as real processes, for a moment."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from bench.comparison import Comparison
from bench.ours import BareRelay
from bench.processes import HOST, BenchError, free_port, running, spawn_module, until_open
from bench.record import Sample, Shape
from bench.system import Site


@dataclass
class Ground:
    """As much of a site as the relay needs: no Postgres."""

    folder: Path
    port: int = field(default_factory=free_port)
    participants: dict[str, int] = field(default_factory=dict)

    def address(self, _: str) -> str:
        return f"{HOST}:{self.port}"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    ground = Ground(tmp_path)
    log = tmp_path / "participant.log"
    with running(spawn_module("bench.participant", "contract", ground.address(""), log=log)) as popen:
        await until_open(ground.port, popen, log)
        ground.participants["contract"] = popen.pid
        yield cast("Site", ground)


class Absent:
    """A system that cannot be had here."""

    name = "absent"

    def takes(self, shape: Shape) -> bool:
        return shape.outcome == "success"

    async def start(self) -> None:
        raise BenchError("needs a machine of another kind")

    async def run(self, shape: Shape, seconds: float) -> Sample:
        raise AssertionError("it was never started")

    def rest(self) -> None:
        raise AssertionError("it was never started")

    def wake(self) -> None:
        raise AssertionError("it was never started")

    async def stop(self) -> None:
        pass


async def test_a_comparison_has_figures_of_what_ran_and_reasons_for_what_did_not(site: Any) -> None:
    shapes = [Shape("success", 2, 8), Shape("rollback", 3, 8)]
    records = await Comparison([BareRelay(site), Absent()], shapes).run(seconds=0.2, rounds=2)
    relay, absent, undone = records
    assert (relay.system, relay.ratio_to_relay, relay.rounds) == ("relay", 1.0, 2)
    assert relay.sagas_per_second is not None
    assert relay.sagas_per_second > 0
    assert relay.cpu_us["load"] > 0
    assert relay.p50_ms is not None
    assert relay.p99_ms is not None
    assert 0 < relay.p50_ms <= relay.p99_ms
    assert (absent.reason, absent.sagas_per_second) == ("needs a machine of another kind", None)
    assert (undone.system, undone.shape, undone.steps) == ("relay", "rollback", 3)

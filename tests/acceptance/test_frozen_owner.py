"""A coordinator that is frozen, as by a paused machine, and what the others say meanwhile of the sagas that it drives."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from saga_coordinator.pb.saga.v1 import saga_pb2
from tests.acceptance.conftest import Client, Shop, StartServing
from tests.eventually import PATIENCE_SECONDS, wait_until

Connect = Callable[[str], Client]


@pytest.mark.parametrize("outlasts_its_lease", [False, True])
def test_a_cancellation_is_answered_while_the_owner_is_frozen(
    serving: StartServing,
    participants_file: Path,
    connect: Connect,
    shop: Shop,
    *,
    outlasts_its_lease: bool,
) -> None:
    """With the reason while the owner has its lease; with yes once another coordinator may take the saga over."""
    flags = ("--participants", participants_file, "--lease-seconds", "1" if outlasts_its_lease else "300")
    owner, other = serving(*flags), serving(*flags)
    client, elsewhere = connect(owner.address), connect(other.address)
    client.register("two", "take", "hang")
    saga_id = client.start("two").saga_id
    assert [shop.called.get(timeout=PATIENCE_SECONDS).step for _ in range(2)] == ["step_0", "step_1"]

    owner.send(signal.SIGSTOP)
    try:
        if outlasts_its_lease:
            elsewhere.cancel(saga_id)
        else:
            assert "which drives the saga, did not answer in time" in elsewhere.cancel_now(saga_id)
    finally:
        owner.send(signal.SIGCONT)

    # Also what was refused was heard: the owner does it once it goes on.
    wait_until(lambda: elsewhere.saga(saga_id).status == saga_pb2.SAGA_STATUS_COMPENSATING, "the turn")
    shop.may_answer.set()
    assert elsewhere.settled(saga_id).status == saga_pb2.SAGA_STATUS_COMPENSATED

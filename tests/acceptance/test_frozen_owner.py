"""A coordinator that is frozen, as by a paused machine, and what the others say meanwhile of the sagas that it drives."""

import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as pb
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
    started = pb.StartSagaRequest(definition="two", start_key="is frozen")
    saga_id = client.sagas.StartSaga(started, timeout=PATIENCE_SECONDS).saga.saga_id
    assert [shop.called.get(timeout=PATIENCE_SECONDS).step for _ in range(2)] == ["step_0", "step_1"]

    def cancel_elsewhere() -> str:
        """Why not, if the answer is no."""
        request = pb.CancelSagaRequest(saga_id=saga_id, reason="changed my mind")
        call = elsewhere.sagas.CancelSaga.future(request, timeout=PATIENCE_SECONDS)
        if call.exception() is None:
            return ""
        assert call.code() is grpc.StatusCode.UNAVAILABLE, call.details()
        return str(call.details())

    owner.send(signal.SIGSTOP)
    try:
        if outlasts_its_lease:
            wait_until(lambda: not cancel_elsewhere(), "the cancellation")
        else:
            assert "which drives the saga, did not answer in time" in cancel_elsewhere()
    finally:
        owner.send(signal.SIGCONT)

    # Also what was refused was heard: the owner does it once it goes on.
    look = pb.GetSagaRequest(saga_id=saga_id)
    wait_until(
        lambda: elsewhere.sagas.GetSaga(look).saga.status == saga_pb2.SAGA_STATUS_COMPENSATING, "the turn"
    )
    shop.may_answer.set()
    waited = pb.WaitSagaRequest(saga_id=saga_id)
    settled = elsewhere.sagas.WaitSaga(waited, timeout=PATIENCE_SECONDS).saga
    assert settled.status == saga_pb2.SAGA_STATUS_COMPENSATED

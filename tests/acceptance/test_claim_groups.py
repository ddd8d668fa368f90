"""Two services, each with a sidecar and a participants file of its own, on one database: nothing of one is done by the other."""

from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import psycopg
import pytest

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as pb
from saga_coordinator.pb.saga.v1.directory_service_pb2 import ListGroupsRequest
from saga_coordinator.pb.saga.v1.directory_service_pb2_grpc import DirectoryServiceStub
from saga_coordinator.pb.saga.v1.participant_service_pb2_grpc import (
    add_ParticipantServiceServicer_to_server,
)
from tests.acceptance.conftest import Client, Serving, Shop, StartServing
from tests.eventually import PATIENCE_SECONDS, wait_until

Connect = Callable[[str], Client]


class Service:
    """An application on loopback, known to its sidecars by the same name as the other one's: `shop`."""

    def __init__(self, group: str, folder: Path, start: StartServing, dsn: str) -> None:
        self.group = group
        self.shop = Shop()
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        add_ParticipantServiceServicer_to_server(self.shop, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.file = folder / f"{group}.yaml"
        self.file.write_text(f'participants: {{shop: {{target: "127.0.0.1:{port}"}}}}')
        self._start = start
        self._dsn = dsn
        self.sidecar = self.scale_up()

    def scale_up(self) -> Serving:
        """Starts a sidecar."""
        self.sidecar = self._start("--group", self.group, "--participants", self.file)
        return self.sidecar

    def scale_down(self) -> None:
        """Kills it."""
        self.sidecar.kill(self._dsn)

    def next_call(self) -> tuple[str, str]:
        """The saga and the step of the next call that arrives."""
        call = self.shop.called.get(timeout=PATIENCE_SECONDS)
        return call.saga_id, call.step

    def sagas_called(self) -> set[str]:
        """The sagas of the calls that have arrived and were not looked at."""
        return {self.next_call()[0] for _ in range(self.shop.called.qsize())}


@pytest.fixture
def services(serving: StartServing, tmp_path: Path, database_dsn: str) -> Iterator[tuple[Service, Service]]:
    orders, billing = (Service(name, tmp_path, serving, database_dsn) for name in ("orders", "billing"))
    both = orders, billing
    yield both
    for each in both:
        each.shop.may_answer.set()
        each.server.stop(None).wait()


def served(client: Client) -> dict[str, bool]:
    """Whether each claim group has a coordinator, by any coordinator's word."""
    stub = DirectoryServiceStub(client.channel)
    answer = stub.ListGroups(ListGroupsRequest(), timeout=PATIENCE_SECONDS)
    for group in answer.groups:
        assert bool(group.coordinators) == group.served
        assert all(each.address for each in group.coordinators)
    return {group.name: group.served for group in answer.groups}


def groups_of(dsn: str, saga_id: str) -> tuple[str, set[str]]:
    """The claim group of a saga, and those of the coordinators that have written to its log."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT claim_group FROM saga.sagas WHERE saga_id = %s", (saga_id,))
        writers = connection.execute(
            "SELECT DISTINCT claim_group FROM saga.log JOIN saga.coordinators ON coordinator_id = recorded_by "
            "WHERE saga_id = %s",
            (saga_id,),
        )
        found = row.fetchone()
        assert found is not None
        return found[0], {writer for (writer,) in writers}


@pytest.mark.parametrize("killed_first", [True, False])
def test_p1_sagas_of_a_group_wait_for_it_and_nothing_crosses(
    services: tuple[Service, Service], connect: Connect, database_dsn: str, *, killed_first: bool
) -> None:
    dying, other = services if killed_first else services[::-1]
    elsewhere = connect(other.sidecar.address)
    elsewhere.register("two", "take", "hang")
    saga_id = connect(dying.sidecar.address).start("two", "of the dying").saga_id
    assert [dying.next_call(), dying.next_call()] == [(saga_id, "step_0"), (saga_id, "step_1")]

    dying.scale_down()
    seen = other.sidecar.wait_for("claim_group_without_coordinator")
    assert (seen["claim_group"], seen["sagas"]) == (dying.group, 1)
    assert served(elsewhere) == {dying.group: False, other.group: True}
    # On a busy machine, the reason may not be found in time.
    reason = f"claim group `{dying.group}`, of which no coordinator lives"
    wait_until(lambda: reason in elsewhere.cancel_now(saga_id), "the reason")
    elsewhere.register("long", "take", "hang", timeout="600s")
    theirs = elsewhere.start("long", "of the other").saga_id
    assert [other.next_call(), other.next_call()] == [(theirs, "step_0"), (theirs, "step_1")]

    dying.scale_up()
    assert other.sidecar.wait_for("claim_group_served_again")["claim_group"] == dying.group
    assert served(elsewhere) == {dying.group: True, other.group: True}
    # What was asked of it while nobody was there is done: both effects are undone, where they were made.
    wait_until(
        lambda: elsewhere.saga(saga_id).status == saga_pb2.SAGA_STATUS_COMPENSATING, "the cancellation"
    )
    dying.shop.may_answer.set()
    assert elsewhere.settled(saga_id).status == saga_pb2.SAGA_STATUS_COMPENSATED
    assert dying.sagas_called() == {saga_id}
    assert groups_of(database_dsn, saga_id) == (dying.group, {dying.group})
    other.shop.may_answer.set()
    assert elsewhere.settled(theirs).status == saga_pb2.SAGA_STATUS_COMPLETED
    assert groups_of(database_dsn, theirs) == (other.group, {other.group})
    assert other.sagas_called() <= {theirs}


def test_what_is_asked_of_a_saga_of_another_group_reaches_that_group_also_while_the_saga_sleeps(
    services: tuple[Service, Service], connect: Connect, database_dsn: str
) -> None:
    own, other = services
    elsewhere = connect(other.sidecar.address)
    elsewhere.register("later", "later")
    saga_id = connect(own.sidecar.address).start("later", "sleeps").saga_id
    assert own.next_call() == (saga_id, "step_0")
    report = pb.ReportOutcomeRequest(
        saga_id=saga_id, step="step_0", operation=saga_pb2.OPERATION_KIND_ACTION, success=saga_pb2.Success()
    )
    elsewhere.sagas.ReportOutcome(report, timeout=PATIENCE_SECONDS)
    assert elsewhere.settled(saga_id).status == saga_pb2.SAGA_STATUS_COMPLETED

    asleep = connect(own.sidecar.address).start("later", "is cancelled").saga_id
    assert own.next_call() == (asleep, "step_0")
    elsewhere.cancel(asleep)
    assert elsewhere.settled(asleep).status == saga_pb2.SAGA_STATUS_COMPENSATED
    for each in (saga_id, asleep):
        assert groups_of(database_dsn, each) == (own.group, {own.group})
    assert other.sagas_called() == set()


@pytest.mark.parametrize("is_known_by_another", [True, False])
def test_p1_a_saga_whose_participant_is_missing_here_goes_on_wherever_it_becomes_known(
    serving: StartServing,
    tmp_path: Path,
    connect: Connect,
    database_dsn: str,
    *,
    is_known_by_another: bool,
) -> None:
    """In the same claim group. To be at a coordinator that does not know the participant costs no attempt."""
    own = Service("orders", tmp_path, serving, database_dsn)
    file = tmp_path / "lacking.yaml"
    file.write_text('participants: {other: {target: "127.0.0.1:1"}}')
    lacking = serving("--group", own.group, "--participants", file)
    client = connect(lacking.address)
    client.register("two", "take", "hang")
    saga_id = connect(own.sidecar.address).start("two", "changes hands").saga_id
    assert [own.next_call(), own.next_call()] == [(saga_id, "step_0"), (saga_id, "step_1")]

    own.scale_down()
    assert lacking.wait_for("participant_not_known")["participant"] == "shop"
    own.shop.may_answer.set()
    if is_known_by_another:
        own.scale_up()
    else:
        file.write_text(own.file.read_text())
    wait_until(lambda: client.settled(saga_id).status == saga_pb2.SAGA_STATUS_COMPLETED, "the saga's end")
    assert [step.attempt for step in client.saga(saga_id).steps] == [1, 2], (
        "the second is for the one that was lost"
    )
    own.server.stop(None).wait()

"""Steps that a participant declares, used by definitions of a running coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from saga_coordinator.pb.saga.v1 import definition_service_pb2 as definition_pb
from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1 import worker_service_pb2 as pb
from saga_coordinator.pb.saga.v1.definition_pb2 import Definition
from saga_coordinator.pb.saga.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.acceptance.conftest import Client, Serving, Shop, run_here
from tests.acceptance.test_rpc import Refused, pages_of
from tests.eventually import PATIENCE_SECONDS

QUICK: dict[str, Any] = {
    "name": "sell",
    "description": "sells a thing",
    "action": {"method": "quick", "timeout": "5s"},
    "compensation": {"method": "undo", "input": {"sold": "${output.done}"}},
    "inputSchema": {"type": "object", "required": ["thing"]},
}
REFUSING: dict[str, Any] = {"name": "pack", "action": {"method": "refuse"}, "readOnly": True}


@pytest.fixture
def declare(client: Client) -> Iterator[Any]:
    """Declares steps of the shop, which at the test's end has none."""
    stub: Any = WorkerServiceStub(client.channel)

    def call(*steps: dict[str, Any], **more: Any) -> bool:
        given = {"participant": "shop", "version": "1", "steps": list(steps), **more}
        request = ParseDict(given, pb.RegisterStepsRequest())
        return stub.RegisterSteps(request, timeout=PATIENCE_SECONDS).changed  # type: ignore[no-any-return]

    yield call
    call(force=True)


def register(client: Client, name: str, *steps: dict[str, Any]) -> definition_pb.RegisteredDefinition:
    return client.define({"name": name, "steps": list(steps)}).registered


def run(client: Client, name: str, key: str) -> saga_pb2.Saga:
    return client.start(name, key, {"thing": "book"}, wait=True)


USING = (
    {"name": "sell", "use": "shop.sell", "action": {"input": {"thing": "${input.thing}"}}},
    {"name": "pack", "use": "shop.pack"},
)


def test_a_definition_that_uses_declared_steps_runs_and_is_undone_by_them(
    client: Client, shop: Shop, declare: Any
) -> None:
    assert declare(QUICK, REFUSING)
    assert not declare(QUICK, REFUSING)
    stored = register(client, "selling", *USING).definition
    assert stored.steps[0].declared == "shop.sell"
    assert (stored.steps[0].action.participant, stored.steps[0].action.method) == ("shop", "quick")
    assert stored.steps[1].read_only
    assert run(client, "selling", "selling 1").status == saga_pb2.SAGA_STATUS_COMPENSATED
    sold, _, undone = (shop.called.get(timeout=PATIENCE_SECONDS) for _ in range(3))
    assert MessageToDict(sold.input) == {"thing": "book"}
    assert (undone.method, MessageToDict(undone.input)) == ("undo", {"sold": "sell"})


def test_a_declaration_that_breaks_definitions_is_refused_unless_forced_and_changes_none(
    client: Client, shop: Shop, declare: Any
) -> None:
    declare(QUICK, REFUSING)
    before = register(client, "depending", *USING)
    for broken, says in (
        ((QUICK,), "uses shop.pack, which is gone"),
        (
            ({key: value for key, value in QUICK.items() if key != "compensation"}, REFUSING),
            "no compensation",
        ),
        (({**QUICK, "inputSchema": {"required": ["thing", "price"]}}, REFUSING), "takes less"),
    ):
        refused = Refused(lambda broken=broken: declare(*broken))  # type: ignore[misc]
        assert refused.code == "FAILED_PRECONDITION"
        assert f"depending version {before.version} uses " in refused.message
        assert says in refused.message
    assert declare(QUICK, version="2", force=True)
    request = definition_pb.GetDefinitionRequest(name="depending")
    after = client.definitions.GetDefinition(request, timeout=PATIENCE_SECONDS).registered
    assert after.digest == before.digest
    assert run(client, "depending", "depending 1").status == saga_pb2.SAGA_STATUS_COMPENSATED
    gone = Refused(lambda: register(client, "late", *USING))
    assert gone.paths == ["definition.steps[1].use"]


def test_a_deprecated_version_holds_nobody_up(client: Client, declare: Any) -> None:
    declare(QUICK, REFUSING, {**REFUSING, "name": "wrap"})
    version = register(client, "old", {"name": "wrap", "use": "shop.wrap"}).version
    assert Refused(lambda: declare(QUICK, REFUSING)).code == "FAILED_PRECONDITION"
    deprecation = definition_pb.DeprecateDefinitionRequest(name="old", version=version, deprecated=True)
    client.definitions.DeprecateDefinition(deprecation, timeout=PATIENCE_SECONDS)
    assert declare(QUICK, REFUSING)


def test_what_was_declared_is_shown(client: Client, declare: Any) -> None:
    declare(QUICK, REFUSING, version="7")
    stub: Any = WorkerServiceStub(client.channel)
    shown = stub.ListDeclaredSteps(pb.ListDeclaredStepsRequest(participant="shop"), timeout=PATIENCE_SECONDS)
    assert shown.version == "7"
    assert [MessageToDict(step) for step in shown.steps] == [REFUSING, QUICK]
    nothing = stub.ListDeclaredSteps(
        pb.ListDeclaredStepsRequest(participant="bank"), timeout=PATIENCE_SECONDS
    )
    assert nothing == pb.ListDeclaredStepsResponse()


def test_declared_steps_are_listed_in_pages(client: Client, declare: Any) -> None:
    names = [f"sell_{number}" for number in range(5)]
    declare(*({**QUICK, "name": name} for name in names))
    stub: Any = WorkerServiceStub(client.channel)
    request = pb.ListDeclaredStepsRequest(participant="shop", page_size=2)
    pages = [[step.name for step in page.steps] for page in pages_of(stub.ListDeclaredSteps, request)]
    assert pages == [names[:2], names[2:4], names[4:]]
    whole = stub.ListDeclaredSteps(pb.ListDeclaredStepsRequest(participant="shop"), timeout=PATIENCE_SECONDS)
    assert ([step.name for step in whole.steps], whole.next_page_token) == (names, "")
    bad = pb.ListDeclaredStepsRequest(participant="shop", page_size=-1)
    assert Refused(lambda: stub.ListDeclaredSteps(bad)).paths == ["page_size"]


def test_faults(client: Client, declare: Any) -> None:
    assert Refused(lambda: declare(QUICK, participant="nobody")).code == "NOT_FOUND"
    refused = Refused(lambda: declare({**QUICK, "name": "X"}, {**REFUSING, "action": {"timeout": "9999s"}}))
    assert refused.paths == ["steps[0].name", "steps[1].action.timeout"]
    request = definition_pb.ValidateDefinitionRequest(
        definition=ParseDict({"name": "v", "steps": [{"name": "a", "use": "shop.none"}]}, Definition())
    )
    (fault,) = client.definitions.ValidateDefinition(request, timeout=PATIENCE_SECONDS).faults
    assert fault.path == "steps[0].use"


FILE = """name: filed
steps:
  - name: sell
    use: shop.sell
    action: {input: {thing: "${input.thing}"}}
"""


def test_files_that_use_declared_steps_are_applied_checked_and_printed(
    client: Client, coordinator: Serving, declare: Any, tmp_path: Path
) -> None:
    declare(QUICK)
    right, wrong, stored = tmp_path / "right.yaml", tmp_path / "wrong.yaml", tmp_path / "stored.yaml"
    right.write_text(FILE)
    wrong.write_text(FILE.replace("filed", "wrong").replace("shop.sell", "shop.lend") + "max_parallel: -1\n")
    at = ("--address", coordinator.address)
    faulty = run_here("definition", "apply", *at, right, wrong)
    assert faulty.returncode == 1
    assert [line.removeprefix(f"error: {wrong}:").split(": ")[:2] for line in faulty.stderr.splitlines()] == [
        ["4", "steps[0].use"],
        ["6", "max_parallel"],
    ]
    assert run_here("definition", "list", *at, "filed").stdout == "", (
        "one with a fault keeps all from being applied"
    )

    assert run_here("definition", "validate", "--live", *at, right).returncode == 0
    assert run_here("definition", "apply", *at, right).stdout == "filed version 1 (created)\n"
    assert run_here("definition", "apply", *at, right).stdout == "filed version 1 (unchanged)\n"
    assert "let a coordinator check" in run_here("definition", "simulate", right).stderr
    stored.write_text(run_here("definition", "get", *at, "filed").stdout)
    assert run_here("definition", "simulate", stored).returncode == 0

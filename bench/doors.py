"""How long the event loop stands still at each door by which bytes come in: `python -m bench.doors [--stacks] [DOOR ...]`.

Every door gets each of the worst contents (`bench/contents.py`) at about its limit, with two coordinators on one real Postgres.
What is measured is processor time, so that other load on the machine does not count: see `bench/watched_server.py`.
"""

from __future__ import annotations

import asyncio
import json
import queue
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, struct_pb2
from grpc_reflection.v1alpha import reflection

from bench.contents import CONTENTS
from bench.processes import HOST, ROOT, BenchError, free_port, running, spawn
from bench.system import Site
from saga_coordinator.pb.saga.v1 import (
    definition_pb2,
    participant_service_pb2,
    saga_pb2,
    worker_service_pb2,
)
from saga_coordinator.pb.saga.v1 import definition_service_pb2 as definition_pb
from saga_coordinator.pb.saga.v1 import directory_service_pb2 as directory_pb
from saga_coordinator.pb.saga.v1 import (
    saga_service_pb2 as pb,
)
from saga_coordinator.store import schema
from saga_coordinator.wire.payload import to_value

PAYLOAD_BYTES_MAX: Final = 1024 * 1024
SECONDS: Final = 90.0
_PLAIN = "doors.v1.Plain"


@dataclass
class Server:
    """One watched coordinator: its process, and its address for clients."""

    popen: subprocess.Popen[bytes]
    address: str
    channel: grpc.Channel

    @classmethod
    def start(
        cls, folder: Path, url: str, participants: Path, stack: ExitStack, stacks: Path | None
    ) -> Server:
        address = f"{HOST}:{free_port()}"
        command = [sys.executable, "-m", "bench.watched_server", url, address, participants]
        if stacks is not None:
            command.append(stacks)
        log = folder / f"{uuid.uuid4()}.log"
        popen = stack.enter_context(
            running(spawn(command, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        )
        assert popen.stdin is not None
        assert popen.stdout is not None
        for pipe in (popen.stdin, popen.stdout):
            stack.callback(pipe.close)
        if not popen.stdout.readline():
            raise BenchError(log.read_text())
        channel = grpc.insecure_channel(
            address, [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        stack.callback(channel.close)
        return cls(popen, address, channel)

    def read(self) -> dict[str, float]:
        """The longest standstill since this was called last."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(b"\n")
        self.popen.stdin.flush()
        read: dict[str, float] = json.loads(self.popen.stdout.readline())
        return read

    def ask(self, method: str, request: Any, answer: Any) -> Any:
        """One RPC; what the server refuses is an answer too."""
        service = "SagaService"
        if "/" in method:
            service, method = method.split("/")
        call: Any = self.channel.unary_unary(
            f"/saga.v1.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return call(request, timeout=SECONDS, wait_for_ready=True)


class Participants:
    """A participant by contract, by plain methods, and as a worker: each answers with `content`, or accepts."""

    def __init__(self) -> None:
        self.content = struct_pb2.Value()
        self.server = grpc.server(
            futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)]
        )
        pool = descriptor_pool.Default()
        file = descriptor_pb2.FileDescriptorProto(
            name="doors.proto",
            package="doors.v1",
            syntax="proto3",
            dependency=["google/protobuf/struct.proto"],
        )
        service = file.service.add(name="Plain")
        service.method.add(
            name="Echo", input_type=".google.protobuf.Value", output_type=".google.protobuf.Value"
        )
        pool.Add(file)
        value = struct_pb2.Value
        self.server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    _PLAIN,
                    {
                        "Echo": grpc.unary_unary_rpc_method_handler(
                            lambda request, context: self.content, value.FromString, value.SerializeToString
                        )
                    },
                ),
                grpc.method_handlers_generic_handler(
                    "saga.v1.ParticipantService",
                    {
                        "Execute": grpc.unary_unary_rpc_method_handler(
                            self._execute,
                            participant_service_pb2.ExecuteRequest.FromString,
                            participant_service_pb2.ExecuteResponse.SerializeToString,
                        ),
                        "Compensate": grpc.unary_unary_rpc_method_handler(
                            lambda request, context: participant_service_pb2.CompensateResponse(),
                            participant_service_pb2.CompensateRequest.FromString,
                            participant_service_pb2.CompensateResponse.SerializeToString,
                        ),
                    },
                ),
            ]
        )
        reflection.enable_server_reflection([_PLAIN, reflection.SERVICE_NAME], self.server)
        port = self.server.add_insecure_port(f"{HOST}:0")
        self.address = f"{HOST}:{port}"
        self.server.start()

    def _execute(self, request: Any, context: Any) -> Any:
        match request.method:
            case "later":
                return participant_service_pb2.ExecuteResponse(pending=True)
            case "large":
                return participant_service_pb2.ExecuteResponse(output=self.content)
            case _:
                return participant_service_pb2.ExecuteResponse()


def _step(name: str, method: str, participant: str = "contract", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "action": {"participant": participant, "method": method, **more},
        "compensation": {"participant": "contract", "method": "undo", "input": {}},
    }


_WAIT = {"name": "wait", "approval": {"timeout": "3600s"}}
DEFINITIONS: Final[Mapping[str, Any]] = {
    "start": [_step("one", "small", input={}), _WAIT],
    "passed": [_step("one", "small"), _WAIT],
    "answered": [_step("one", "large", input={})],
    "many": [{**_step(f"s{number}", "large", input={}), "after": []} for number in range(7)],
    "plain": [_step("one", f"{_PLAIN}/Echo", "plain", input="${input}")],
    "accepted": [_step("one", "later", input={})],
    "event": [{"name": "one", "await_event": {"event": "came", "correlation": "${saga.id}"}}],
    "tasks": [_step("one", "do", "worker")],
    "shown": [{"name": "one", "approval": {"show": "${input}", "timeout": "3600s"}}],
    "parent": [{"name": "one", "saga": {"definition": "answered_child", "input": "${input}"}}],
    "template": [_step("one", "small", input={"a": "${input}", "b": "x"}), _WAIT],
    "text": [_step("one", "small", input={"a": "-${input}"}), _WAIT],
    "asleep": [{"name": "one", "approval": {"timeout": "36000s"}}],
}


class Doors:
    """Each public method that begins with `door_` is one; it returns when what came in has had its effect."""

    def __init__(self, here: Server, there: Server, participants: Participants) -> None:
        self.here, self.there = here, there
        self.participants = participants
        self.value = struct_pb2.Value()

    def _start(self, definition: str, value: Any = None, *, wait: bool = False) -> Any:
        request = pb.StartSagaRequest(definition=definition, start_key=str(uuid.uuid4()), wait=wait)
        if value is not None:
            request.input.CopyFrom(value)
        return self.here.ask("StartSaga", request, pb.StartSagaResponse).saga

    def _until(self, saga_id: str, is_so: Callable[[Any], bool]) -> Any:
        give_up_at = time.monotonic() + SECONDS
        while True:
            request = pb.GetSagaRequest(saga_id=saga_id)
            saga = self.there.ask("GetSaga", request, pb.GetSagaResponse).saga
            if is_so(saga):
                return saga
            if time.monotonic() > give_up_at:
                raise BenchError(f"waited in vain: {saga.status} {saga.steps}"[:500])
            time.sleep(0.05)

    def door_start(self) -> None:
        self._start("start", self.value)

    def door_start_and_wait(self) -> None:
        """Settled here, so the answer is made of what is in memory."""
        self._start("answered", self.value, wait=True)

    def door_start_again(self) -> None:
        request = pb.StartSagaRequest(definition="start", start_key=str(uuid.uuid4()), input=self.value)
        for _ in range(2):
            self.here.ask("StartSaga", request, pb.StartSagaResponse)

    def door_call_with_input(self) -> None:
        """The input goes to a participant by contract."""
        saga = self._start("passed", self.value)
        self._until(saga.saga_id, lambda saga: saga.steps[-1].status == saga_pb2.STEP_STATUS_WAITING)

    def door_templates(self) -> None:
        """An expression puts the input into an object, and into a text."""
        for definition in ("template", "text"):
            with suppress(grpc.RpcError):
                self._start(definition, self.value)
        time.sleep(1.0)

    def door_answer(self) -> None:
        """A participant by contract answers with it."""
        self._start("answered", wait=True)

    def door_plain_method(self) -> None:
        """It goes to a plain method, and comes back."""
        self._start("plain", self.value, wait=True)

    def door_report(self) -> None:
        saga_id = self._start("accepted").saga_id
        self._report(self.here, saga_id)

    def door_report_elsewhere(self) -> None:
        """By mail: the coordinator that is told does not drive the saga."""
        saga_id = self._start("accepted").saga_id
        self._report(self.there, saga_id)

    def _report(self, server: Server, saga_id: str) -> None:
        self._until(saga_id, lambda saga: saga.steps[0].status == saga_pb2.STEP_STATUS_WAITING)
        request = pb.ReportOutcomeRequest(
            saga_id=saga_id, step="one", operation=saga_pb2.OPERATION_KIND_ACTION
        )
        request.success.output.CopyFrom(self.value)
        server.ask("ReportOutcome", request, pb.ReportOutcomeResponse)

    def door_signal(self) -> None:
        self._signal(self.here)

    def door_signal_elsewhere(self) -> None:
        self._signal(self.there)

    def _signal(self, server: Server) -> None:
        saga_id = self._start("event").saga_id
        event = pb.Event(event_id=str(uuid.uuid4()), name="came", payload=self.value)
        server.ask("SignalSaga", pb.SignalSagaRequest(saga_id=saga_id, event=event), pb.SignalSagaResponse)

    def door_publish(self) -> None:
        """To one that waits, and again, which is compared."""
        saga_id = self._start("event").saga_id
        event = pb.Event(event_id=str(uuid.uuid4()), name="came", correlation=saga_id, payload=self.value)
        for _ in range(2):
            self.here.ask("PublishEvent", pb.PublishEventRequest(event=event), pb.PublishEventResponse)

    def door_publish_early(self) -> None:
        """Before the saga waits, which then takes it from the database."""
        event = pb.Event(event_id=str(uuid.uuid4()), name="early", correlation="c", payload=self.value)
        self.here.ask("PublishEvent", pb.PublishEventRequest(event=event), pb.PublishEventResponse)
        self.here.ask("ListEvents", pb.ListEventsRequest(page_size=1), pb.ListEventsResponse)

    def door_worker(self) -> None:
        """A worker gets it, and answers with it."""
        self._work(self.here)

    def door_worker_elsewhere(self) -> None:
        """The same by way of another coordinator."""
        self._work(self.there)

    def _work(self, at: Server) -> None:
        said: queue.Queue[Any] = queue.Queue()
        work: Any = at.channel.stream_stream(
            "/saga.v1.WorkerService/Work",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=worker_service_pb2.WorkResponse.FromString,
        )
        said.put(
            worker_service_pb2.WorkRequest(
                hello=worker_service_pb2.Hello(participant="worker", credits=4, worker_id="w")
            )
        )
        stream = work(iter(said.get, None), timeout=SECONDS)
        next(stream)

        with futures.ThreadPoolExecutor(1) as pool:
            starting = pool.submit(self._start, "tasks", self.value, wait=True)
            starting.add_done_callback(lambda _: said.put(None))  # also where the start is refused
            for response in stream:
                if response.tasks:
                    outcome = worker_service_pb2.TaskOutcome(task_id=response.tasks[0].task_id)
                    outcome.success.output.CopyFrom(self.value)
                    said.put(worker_service_pb2.WorkRequest(outcomes=[outcome]))
                    break
            starting.result()
        time.sleep(0.2)

    def door_child(self) -> None:
        self._start("parent", self.value, wait=True)

    def door_views(self) -> None:
        saga_id = self._start("shown", self.value).saga_id
        for server in (self.here, self.there):
            request = pb.GetSagaRequest(saga_id=saga_id, include_log=True)
            server.ask("GetSaga", request, pb.GetSagaResponse)
            server.ask("ListSagas", pb.ListSagasRequest(page_size=3), pb.ListSagasResponse)
            preview = pb.PreviewCompensationRequest(saga_id=saga_id)
            server.ask("PreviewCompensation", preview, pb.PreviewCompensationResponse)
        watch: Any = self.there.channel.unary_stream(
            "/saga.v1.SagaService/WatchSaga",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=pb.WatchSagaResponse.FromString,
        )
        watching = watch(pb.WatchSagaRequest(saga_id=saga_id), timeout=SECONDS)
        next(watching)
        watching.cancel()

    def door_views_of_many(self) -> None:
        """A saga whose outputs fill an answer: seven payloads of nested lists are less than 3 MiB."""
        saga_id = self._start("many", wait=True).saga_id
        for server in (self.here, self.there):
            for include_log in (False, True):
                request = pb.GetSagaRequest(saga_id=saga_id, include_log=include_log)
                server.ask("GetSaga", request, pb.GetSagaResponse)
        server.ask("ListSagas", pb.ListSagasRequest(page_size=3), pb.ListSagasResponse)

    def door_adoption(self) -> None:
        """A saga that sleeps with it in its log is taken up by whoever is asked to decide on it."""
        saga_id = self._start("asleep", self.value).saga_id
        time.sleep(0.3)
        cancel = pb.CancelSagaRequest(saga_id=saga_id, reason="enough")
        self.there.ask("CancelSaga", cancel, pb.CancelSagaResponse)

    def door_definition(self) -> None:
        """As an input template of a definition."""
        payload = json_format.MessageToDict(self.value)
        spec = {"name": f"d{uuid.uuid4().hex[:8]}", "steps": [_step("one", "small", input={"a": payload})]}
        with suppress(grpc.RpcError, json_format.ParseError):
            definition = json_format.ParseDict(spec, definition_pb2.Definition())
            registering = definition_pb.RegisterDefinitionRequest(definition=definition)
            self.here.ask(
                "DefinitionService/RegisterDefinition", registering, definition_pb.RegisterDefinitionResponse
            )

    def door_definition_text(self) -> None:
        """As an input template of a definition's text, at the limit of texts."""
        payload = json_format.MessageToDict(self.value)
        spec = {"name": f"d{uuid.uuid4().hex[:8]}", "steps": [_step("one", "small", input={"a": payload})]}
        text = json.dumps(spec)
        if len(text) > 256 * 1024:
            text = text[: 250 * 1024]
        for method in ("RegisterDefinition", "ValidateDefinition"):
            with suppress(grpc.RpcError):
                request = getattr(definition_pb, f"{method}Request")(text=text)
                self.here.ask(
                    f"DefinitionService/{method}", request, getattr(definition_pb, f"{method}Response")
                )

    def door_steps_declared(self) -> None:
        schema_of = {"const": json_format.MessageToDict(self.value)}
        step = worker_service_pb2.DeclaredStep(name="s")
        step.action.method = "do"
        step.input_schema.update(schema_of)
        with suppress(grpc.RpcError):
            self.here.ask(
                "WorkerService/RegisterSteps",
                worker_service_pb2.RegisterStepsRequest(participant="worker", version="1", steps=[step]),
                worker_service_pb2.RegisterStepsResponse,
            )

    def door_cause(self) -> None:
        """As words: a reason to cancel, details of a heartbeat, a comment."""
        words = self.value.string_value or "\x01" * 1_000_000
        saga_id = self._start("asleep").saga_id
        with suppress(grpc.RpcError):
            self.here.ask(
                "CancelSaga", pb.CancelSagaRequest(saga_id=saga_id, reason=words), pb.CancelSagaResponse
            )
        for request in (pb.StartSagaRequest(definition=words), pb.StartSagaRequest(start_key=words)):
            with suppress(grpc.RpcError):
                self.here.ask("StartSaga", request, pb.StartSagaResponse)

    def door_participant(self) -> None:
        """As an address, and as a descriptor set."""
        put = directory_pb.PutParticipantRequest()
        put.participant.name = "p"
        put.participant.target = "127.0.0.1:1"
        with suppress(grpc.RpcError, AttributeError):
            put.participant.descriptor_set = self.value.SerializeToString()
        with suppress(grpc.RpcError):
            self.here.ask("DirectoryService/PutParticipant", put, directory_pb.PutParticipantResponse)


@dataclass
class Measured:
    """The longest standstills at one door with one content, in milliseconds of processor time."""

    door: str
    content: str
    loop_ms: float
    process_ms: float
    collection_ms: float
    note: str = ""
    lines: list[str] = field(default_factory=list)


def measure(doors: Doors, names: list[str], contents: list[str]) -> Iterator[Measured]:
    """Each of the doors with each of the contents, once to be warm and once measured."""
    for name in names:
        for content in contents:
            doors.value = to_value(CONTENTS[content](PAYLOAD_BYTES_MAX))
            doors.participants.content = doors.value
            note = ""
            doors.here.read(), doors.there.read()
            try:
                getattr(doors, f"door_{name}")()
            except grpc.RpcError as error:
                note = f"{error.code().name}: {error.details()}"[:90]
            except BenchError as error:
                note = str(error)[:90]
            time.sleep(0.1)
            read = [doors.here.read(), doors.there.read()]
            yield Measured(
                name,
                content,
                max(each["loop_ms"] for each in read),
                max(each["process_ms"] for each in read),
                max(each["collection_ms"] for each in read),
                note,
            )


async def main(arguments: list[str]) -> None:
    stacks = ROOT / ".cache" / "doors.stacks" if "--stacks" in arguments else None
    wanted = [each for each in arguments if not each.startswith("--")]
    every = [name.removeprefix("door_") for name in vars(Doors) if name.startswith("door_")]
    names = [each for each in every if not wanted or each in wanted]
    contents = [each for each in CONTENTS if not (set(wanted) & CONTENTS.keys()) or each in wanted]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        async with Site(Path(folder)) as site:
            url = site.make_database("doors")
            await asyncio.to_thread(schema.upgrade, url)
            participants = Participants()
            stack.callback(participants.server.stop, None)
            file = Path(folder) / "participants.yaml"
            file.write_text(
                json.dumps(
                    {
                        "participants": {
                            "contract": {"target": participants.address},
                            "plain": {"target": participants.address},
                            "worker": {"worker": True},
                        }
                    }
                )
            )
            servers = [
                Server.start(Path(folder), url, file, stack, stacks and Path(f"{stacks}.{n}"))
                for n in range(2)
            ]
            doors = Doors(servers[0], servers[1], participants)
            register(servers[0])
            print(
                "| door | content | loop, ms | process, ms | collection, ms | |\n|---|---|---|---|---|---|",
                flush=True,
            )
            for each in measure(doors, names or every, contents):
                print(
                    f"| {each.door} | {each.content} | {each.loop_ms:.1f} | {each.process_ms:.1f} | {each.collection_ms:.1f} "
                    f"| {each.note} |",
                    flush=True,
                )
            stack.close()


def register(server: Server) -> None:
    """The definitions of the doors."""
    specs = {"answered_child": [_step("one", "large")]} | dict(DEFINITIONS)
    for name, steps in specs.items():
        spec = {"name": name, "steps": steps}
        request = definition_pb.RegisterDefinitionRequest(
            definition=json_format.ParseDict(spec, definition_pb2.Definition())
        )
        server.ask("DefinitionService/RegisterDefinition", request, definition_pb.RegisterDefinitionResponse)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

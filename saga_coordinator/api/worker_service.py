"""`saga.v1.WorkerService`: the streams of workers, and the steps that participants declare."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from saga_coordinator import __version__, telemetry
from saga_coordinator.api import worker_readers as readers
from saga_coordinator.api.caller import Caller, Conversation
from saga_coordinator.api.pages import fill_page, position_of
from saga_coordinator.api.to_the_end import to_the_end
from saga_coordinator.catalog.declared_steps import DeclaredSteps
from saga_coordinator.engine.coordinator import Coordinator
from saga_coordinator.lifecycle import Background
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.directory.names import check_known, check_worker
from saga_coordinator.participants.workers.stream import Greeting, Stream
from saga_coordinator.participants.workers.tasks import operation_of
from saga_coordinator.participants.workers.workers import HEARTBEAT_SECONDS, Workers
from saga_coordinator.pb.saga.v1 import worker_service_pb2 as pb
from saga_coordinator.saga.machine.inputs import OutcomeReported
from saga_coordinator.saga.words.errors import InvalidRequest, Resource, SagaError
from saga_coordinator.saga.words.outcome import Outcome, Refused, Succeeded
from saga_coordinator.store.lists import DeclaredStep, Lists
from saga_coordinator.store.pages import Page
from saga_coordinator.turns import Turns
from saga_coordinator.views.definition import write_declared
from saga_coordinator.wire.conversion import convert
from saga_coordinator.wire.outcomes import OutcomeNotTaken, outcome_of
from saga_coordinator.wire.payload import message_bytes_max
from saga_coordinator.wire.times import duration_of

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["WorkerService"]

log = telemetry.logger()


class WorkerService:
    """One method per RPC; the contract says what each does."""

    def __init__(
        self,
        coordinator: Coordinator,
        participants: Attempts,
        workers: Workers,
        *,
        declared_steps: DeclaredSteps,
        lists: Lists,
        coordinator_id: str,
        payload_bytes_max: int,
    ) -> None:
        self._coordinator = coordinator
        self._declared_steps = declared_steps
        self._lists = lists
        self._participants = participants
        self._workers = workers
        self._payload_bytes_max = payload_bytes_max
        welcome = pb.WorkResponse(welcome=pb.Welcome(coordinator_id=coordinator_id, version=__version__))
        welcome.welcome.heartbeat_interval.CopyFrom(duration_of(HEARTBEAT_SECONDS))
        self._welcome = welcome.SerializeToString()
        self._background = Background()
        self._turns = Turns("declarations of steps", at_once=1, waiting_max=32, seconds_max=60.0)

    def resource(self, request: object) -> Resource | None:
        return None

    def hand_out_no_more(self) -> None:
        """Hands out nothing more. Each stream ends with the outcomes of the tasks that its worker has."""
        self._workers.hand_out_no_more()

    async def Work(self, conversation: Conversation, caller: Caller) -> None:  # noqa: N802  # the RPC's name
        received = aiter(conversation)
        first = await anext(received, None)
        if first is None:  # it hung up without a word
            return
        request, oversized = await self._parsed(first)
        greeting = readers.greeting(request, message_bytes_max(self._payload_bytes_max))
        check_worker(self._participants.directory, greeting.participant)
        transport = _Transport(conversation, self._background)
        stream = self._workers.connect(greeting, transport.begin, transport.cut)
        # Waited for, because gRPC cannot end a call whose first message is still being sent.
        await conversation.write(self._welcome)
        self._workers.admit(stream)
        _tell("worker_connected", greeting, credits=greeting.credits, version=greeting.version)
        try:
            await self._take(greeting, stream, request, oversized)
            async for raw in received:
                request, oversized = await self._parsed(raw)
                if request.HasField("hello"):
                    raise InvalidRequest.at("hello", "must be in the first message and in no other")
                await self._take(greeting, stream, request, oversized)
        except asyncio.CancelledError:
            if not transport.is_cut:  # the worker has hung up, or the server stops
                raise
            transport.uncancel()
        finally:
            lost = len(stream.given)
            stream.end()
            _tell("worker_gone", greeting, tasks_lost=lost)
        if transport.verdict is not None:
            raise transport.verdict

    async def RegisterSteps(  # noqa: N802
        self, request: pb.RegisterStepsRequest, caller: Caller
    ) -> pb.RegisterStepsResponse:
        participant, declared = await self._turns.in_thread(readers.declared_steps, request)
        check_known(self._participants.directory, participant)
        changed = await to_the_end(
            self._declared_steps.replace(caller.namespace, participant, declared, force=request.force)
        )
        if changed:
            log.info(
                "steps_declared",
                participant=participant,
                version=declared.version,
                steps=len(declared.steps),
                force=request.force,
            )
        return pb.RegisterStepsResponse(changed=changed)

    async def ListDeclaredSteps(  # noqa: N802
        self, request: pb.ListDeclaredStepsRequest, caller: Caller
    ) -> pb.ListDeclaredStepsResponse:
        participant, page_size = readers.declared_step_list(request)
        after = position_of(request, request.page_token) or ""

        def answer(page: Page[DeclaredStep]) -> pb.ListDeclaredStepsResponse:
            response = pb.ListDeclaredStepsResponse(version=page.items[0].version if page.items else "")
            response.next_page_token = fill_page(
                request, page, response.steps, write_declared, lambda step: step.name
            )
            return response

        return await self._lists.declared_steps(caller.namespace, participant, after, page_size, answer)

    async def _parsed(self, raw: bytes) -> tuple[pb.WorkRequest, list[readers.Oversized]]:
        return await convert(len(raw), readers.work, raw, self._payload_bytes_max)

    async def _take(
        self,
        greeting: Greeting,
        stream: Stream,
        request: pb.WorkRequest,
        oversized: Sequence[readers.Oversized],
    ) -> None:
        stream.heard(asyncio.get_running_loop().time())
        last_task_id = stream.last_task_id
        for each in oversized:
            self._refuse(greeting, stream, each.task_id, str(each.error))
            stream.settle(each.task_id, OutcomeNotTaken(str(each.error)).as_outcome)
        for told in request.outcomes:
            outcome = await self._outcome(greeting, stream, told)
            late = stream.settle(told.task_id, outcome)
            if late is not None:
                self._report(late, outcome)
            elif not 0 < told.task_id <= last_task_id:
                _tell("outcome_of_task_not_given", greeting, task_id=told.task_id)
        if stream.is_deaf:
            raise InvalidRequest.at("outcomes", "too many are for tasks that this stream never got")
        if request.HasField("credits"):
            stream.change_credits(readers.credits_of(request))
        if request.goodbye:
            stream.take_no_more()
        if request.heartbeat:
            stream.say(pb.WorkResponse(heartbeat=True))
        stream.settled()

    async def _outcome(self, greeting: Greeting, stream: Stream, told: pb.TaskOutcome) -> Outcome:
        """The outcome that the worker tells. If it cannot be taken, the worker is told so and the attempt is made again."""
        try:
            return await convert(told.ByteSize(), outcome_of, told, self._payload_bytes_max)
        except OutcomeNotTaken as error:
            self._refuse(greeting, stream, told.task_id, str(error))
            return error.as_outcome

    def _refuse(self, greeting: Greeting, stream: Stream, task_id: int, reason: str) -> None:
        if (given := stream.given.get(task_id)) is not None:
            stream.reject(task_id, "INVALID_ARGUMENT", reason)
            about = {"saga_id": given.task.saga_id, "step": given.task.step}
            _tell("outcome_not_taken", greeting, **about, reason=reason)

    def _report(self, task: pb.Task, outcome: Outcome) -> None:
        """Reports a late outcome to the saga. Nobody waits for the attempt any more, but a certain outcome may be of use."""
        if isinstance(outcome, Succeeded | Refused):
            self._background.spawn("late outcome", self._report_late(task, outcome))

    async def _report_late(self, task: pb.Task, outcome: Outcome) -> None:
        about = {"saga_id": task.saga_id, "step": task.step, "attempt": task.attempt}
        try:
            reported = OutcomeReported(task.step, operation_of(task), outcome, task.attempt)
            answered = await self._coordinator.ask(task.saga_id, reported)
        except SagaError as error:
            log.warning("late_outcome_not_learned", **about, reason=str(error))
        else:
            log.info("late_outcome", **about, applied=answered.is_applied)


class _Transport:
    """The transport of one stream: it writes to the worker, and ends the stream from our side."""

    __slots__ = ("_background", "_conversation", "_reader", "is_cut", "verdict")

    def __init__(self, conversation: Conversation, background: Background) -> None:
        self._conversation = conversation
        self._background = background
        self._reader = asyncio.current_task()
        self.is_cut = False
        self.verdict: SagaError | None = None

    def begin(self, stream: Stream) -> None:
        """Writes soon whatever the stream has to say."""
        self._background.spawn("words to a worker", self._write(stream))

    async def _write(self, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        try:
            while message := stream.next_message(loop.time()):
                await self._conversation.write(message)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # gRPC's own classes vary; the reader hears of it, too
            log.debug("worker_not_reached", worker_id=stream.worker_id, reason=repr(error))

    def cut(self, verdict: SagaError | None) -> None:
        """Ends the stream, with OK for None. The first verdict counts."""
        if not self.is_cut and self._reader is not None:
            self.is_cut = True
            self.verdict = verdict
            self._reader.cancel()

    def uncancel(self) -> None:
        """Takes back the cancellation of the reader, which was our own and is dealt with."""
        assert self._reader is not None
        self._reader.uncancel()


def _tell(event: str, greeting: Greeting, **more: object) -> None:
    log.info(event, participant=greeting.participant, worker_id=greeting.worker_id, **more)

"""Every command of sagactl against a real server. Each output is what the command's own schema says."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import click
import jsonschema
import pytest
import yaml

from sagactl.endings import Ending
from sagactl.outputs import OUTPUTS
from sagactl.program import program
from sagactl.verbs import VERBS, Verb
from tests.acceptance.conftest import Serving, Shop
from tests.eventually import wait_until
from tests.sagactl_runs import on_terminal, run_here

Run = Callable[..., CompletedProcess[str]]
Data = Callable[..., Any]


@pytest.fixture
def run(coordinator: Serving, shop: Shop) -> Run:
    """Runs a command line for people, which must end with `code`."""

    def call(*arguments: str | Path, code: int = 0, stdin: str = "") -> CompletedProcess[str]:
        done = run_here(*arguments, "--address", coordinator.address, "--timeout", "60s", stdin=stdin)
        assert done.returncode == code, done
        return done

    return call


@pytest.fixture
def data(run: Run) -> Data:
    """Runs a command line with `-o json`, checks the output by the command's schema, and returns it."""

    def call(name: str, *arguments: str | Path, code: int = 0, stdin: str = "") -> Any:
        words = name.split()
        read = json.loads(run(*words, *arguments, "-o", "json", code=code, stdin=stdin).stdout)
        schema = json.loads(run("schema", *words, "-o", "json").stdout)
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(read, schema)
        assert (schema if schema["type"] == "object" else schema["items"])["properties"]
        return read

    return call


@pytest.fixture
def definition(run: Run, tmp_path: Path) -> str:
    """A definition with a step that succeeds, one that may be told to fail, and one that waits for a person."""
    name = f"d{uuid.uuid4().hex[:10]}"
    undo = {"participant": "shop", "method": "undo"}
    steps = [
        {"name": "reserve", "action": {"participant": "shop", "method": "quick"}, "compensation": undo},
        {"name": "ask", "approval": {"show": "${input}"}},
        {"name": "charge", "action": {"participant": "shop", "method": "refuse"}, "compensation": undo},
    ]
    file = tmp_path / "definition.yaml"
    file.write_text(yaml.safe_dump({"name": name, "steps": steps}))
    run("apply", "-f", file)
    return name


def started(data: Data, definition: str, *more: str) -> str:
    return str(data("sagas start", definition, "--input", '{"amount": 3}', *more)["saga"]["saga_id"])


def test_a_saga_from_its_start_to_its_end(run: Run, data: Data, definition: str) -> None:
    saga = started(data, definition, "--key", f"key-{definition}", "--label", "region=eu")
    again = data(
        "sagas start",
        definition,
        "--input",
        '{"amount": 3}',
        "--key",
        f"key-{definition}",
        "--label",
        "region=eu",
    )
    assert (again["created"], again["saga"]["saga_id"]) == (False, saga)
    listed = data("sagas list", "--definition", definition, "--status", "running", "--label", "region=eu")
    assert [each["saga_id"] for each in listed] == [saga]
    waiting = [each for each in data("approvals list") if each["saga_id"] == saga]
    # The step may not have begun to wait, which `approve` refuses; then the plan of the undo says nothing of it, either.
    plan = data("sagas preview", saga)
    assert plan["status"] == "SAGA_STATUS_COMPENSATED"
    assert all(each["step"] == "ask" for each in waiting)
    run("sagas", "signal", saga, "greeting")
    data("sagas signal", saga, "greeting", "--id", f"id-{definition}")
    refused = run("approvals", "approve", saga, "reserve", code=4)
    assert "NO_WAIT" in refused.stderr
    run("call", "WaitSaga", f'{{"saga_id": "{saga}", "timeout": "0.001s"}}')
    cancelled = data("sagas cancel", saga, "--reason", "a drill", "--yes")
    assert cancelled["saga"]["saga_id"] == saga
    assert data("wait", saga, code=1)["status"] == "SAGA_STATUS_COMPENSATED"
    data("wait", saga, "--for", "compensated")
    data("wait", saga, "--for", "completed", code=1)
    shown = data("sagas show", f"key:key-{definition}")
    assert shown["log"][-1]["entry_type"] == "saga_compensated"
    assert [entry["sequence"] for entry in shown["log"]] == list(range(1, shown["saga"]["sequence"] + 1))
    cancelling, refusing = data("sagas acts", saga)
    assert (cancelling["verb"], cancelling["reason"]) == ("ACT_VERB_CANCEL_SAGA", "a drill")
    assert (refusing["verb"], refusing["result"]) == ("ACT_VERB_APPROVE_STEP", "ACT_RESULT_REFUSED")
    drawn = run("sagas", "show", saga).stdout
    assert "CANCELLED: a drill" in drawn
    assert "undo of reserve" in drawn
    watched = run("sagas", "watch", saga, "-o", "json", code=1).stdout.splitlines()
    assert list(map(json.loads, watched)) == shown["log"]
    schema = json.loads(run("schema", "sagas", "watch", "-o", "json").stdout)
    for line in watched:
        jsonschema.validate(json.loads(line), schema)
    decided = json.loads(run("schema", "approvals", "approve", "-o", "json").stdout)
    assert decided["required"] == ["saga_id", "step", "approved", "applied"]


def test_what_a_person_decides(run: Run, data: Data, definition: str) -> None:
    for verb, code in (("approve", 1), ("reject", 1)):
        saga = started(data, definition)
        _until_waiting(run, saga)
        decided = data(
            f"approvals {verb}", saga, "ask", "--by", "ana", *(["--yes"] if verb == "reject" else [])
        )
        assert decided["applied"] is True
        assert data("wait", saga, code=code)["status"] == "SAGA_STATUS_COMPENSATED"


def _until_waiting(run: Run, saga: str) -> None:
    def waits() -> bool:
        read = json.loads(run("sagas", "show", saga, "-o", "json").stdout)
        return any(each["status"] == "STEP_STATUS_WAITING" for each in read["saga"]["steps"])

    wait_until(waits, "the step that waits for a person")


def test_versions_of_a_definition(run: Run, data: Data, definition: str, tmp_path: Path) -> None:
    got = yaml.safe_load(run("definitions", "get", definition).stdout)
    assert got["name"] == definition
    file = tmp_path / "second.yaml"
    file.write_text(yaml.safe_dump({**got, "description": "the second"}))
    assert data("definitions validate", file)["faults"] == []
    (difference,) = data("definitions diff", definition, file, code=1)["differences"]
    assert (difference["path"], difference["after"]) == ("description", "the second")
    (planned,) = data("apply", "-f", file, "--dry-run", "--exit-code", code=1)
    assert planned["action"] == "change"
    (applied,) = data("apply", "-f", file)
    assert applied["result"] == "version 2 (new)"
    (repeated,) = data("apply", "-f", file, "--exit-code")
    assert (repeated["action"], repeated["is_changed"]) == ("keep", False)
    assert data("definitions default", f"{definition}@1")["default"] is True
    assert "is the default" in run("definitions", "deprecate", f"{definition}@1", code=4).stderr
    data("definitions deprecate", f"{definition}@2", "--reason", "a drill")
    data("definitions deprecate", f"{definition}@2", "--undo")
    assert [each["version"] for each in data("definitions list", definition)] == [2, 1]
    data("definitions delete", f"{definition}@2", "--yes")
    assert data("definitions get", definition)["version"] == 1
    assert "NO_SUCH_DEFINITION" in run("definitions", "get", f"{definition}@9", code=3).stderr


def test_faults_of_what_is_applied_are_all_told_and_nothing_is_changed(
    run: Run, data: Data, tmp_path: Path
) -> None:
    name = f"d{uuid.uuid4().hex[:10]}"
    good = {"name": name, "steps": [{"name": "a", "delay": "1s"}]}
    bad = {"name": f"{name}b", "steps": [{"name": "A"}, {"name": "a", "after": ["z"], "delay": "1s"}]}
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([good, bad]))
    told = run("apply", "-f", tmp_path, code=4).stderr
    assert "steps[0]" in told
    assert "steps[1]" in told
    assert "(document 2)" in told
    assert data("definitions list", name) == []


def test_participants(run: Run, data: Data, tmp_path: Path) -> None:
    name = f"p{uuid.uuid4().hex[:8]}"
    file = tmp_path / "participants.yaml"
    file.write_text(yaml.safe_dump({"participants": {name: {"target": "127.0.0.1:1"}}}))
    (made,) = data("apply", "-f", file)
    assert made["result"] == "added"
    assert [each["action"] for each in data("apply", "-f", file)] == ["keep"]
    assert data("participants put", name, "127.0.0.1:2")["created"] is False
    (planned,) = data("apply", "-f", file, "--dry-run")
    assert planned["differences"] == ['~ target: "127.0.0.1:2" -> "127.0.0.1:1"']
    assert data("participants show", name)["participant"]["target"] == "127.0.0.1:2"
    assert name in {each["participant"]["name"] for each in data("participants list")}
    assert data("participants health", name)["is_well"] is True
    data("participants breaker", name, "open", "--reason", "a drill", "--yes")
    data("participants breaker", name, "automatic", "--reason", "a drill")
    data("participants delete", name, "--yes", "--reason", "a drill")
    assert "NO_SUCH_PARTICIPANT" in run("participants", "show", name, code=3).stderr
    file.write_text(
        yaml.safe_dump({"participants": {name: {"target": "127.0.0.1:1"}, f"{name}b": {"target": ""}}})
    )
    partly = run("apply", "-f", file, code=Ending.PARTLY_DONE)
    assert "added" in partly.stdout
    assert f"participant {name}b: failed" in partly.stderr
    data("participants delete", name, "--yes")
    acts = data("acts", "--kind", "participant", "--subject", name)
    assert acts[0]["verb"] == "ACT_VERB_DELETE_PARTICIPANT"


def test_an_error_is_json_where_a_program_reads(run: Run) -> None:
    saga = str(uuid.uuid4())
    told = json.loads(run("sagas", "show", saga, "-o", "json", code=3).stderr)["error"]
    assert (told["kind"], told["status"], told["reason"]) == ("not_found", "NOT_FOUND", "NO_SUCH_SAGA")
    assert told["metadata"] == {"saga_id": saga}
    faulty = json.loads(run("call", "StartSaga", "{labels: {a: b}}", "-o", "jsonl", code=4).stderr)["error"]
    assert {"field": "start_key", "description": "is required"} in faulty["faults"]


def test_pruning_removes_what_the_files_do_not_have(
    run: Run, serving: Callable[..., Serving], tmp_path: Path
) -> None:
    address = serving().address
    keep, gone = tmp_path / "keep.yaml", tmp_path / "gone.yaml"
    keep.write_text("name: kept\nsteps: [{name: a, delay: 1s}]\n")
    gone.write_text(
        "name: gone\nsteps: [{name: a, delay: 1s}]\n---\nparticipants: {shipping: {target: '127.0.0.1:1'}}\n"
    )
    at = ("--address", address, "-o", "json")
    assert run_here("apply", "-f", tmp_path, *at).returncode == 0
    gone.unlink()
    unsure = run_here("apply", "-f", tmp_path, "--prune", *at)
    assert unsure.returncode == 2
    assert "--yes" in unsure.stderr
    pruned = json.loads(run_here("apply", "-f", tmp_path, "--prune", "--yes", *at).stdout)
    assert {(each["name"], each["action"]) for each in pruned} == {
        ("kept", "keep"),
        ("gone", "remove"),
        ("shipping", "remove"),
    }
    again = run_here("apply", "-f", tmp_path, "--prune", "--exit-code", *at)
    assert again.returncode == 0, again


def test_events(data: Data) -> None:
    correlation = uuid.uuid4().hex
    published = data("events publish", "paid", correlation, "--payload", "{amount: 3}", "--keep", "1h")
    assert (published["sagas"], published["duplicate"]) == (0, False)
    (event,) = data("events list", "--untaken", "--name", "paid", "--correlation", correlation)
    assert event["event"]["payload"] == {"amount": 3}


def test_what_the_server_says_of_itself(run: Run, data: Data, coordinator: Serving) -> None:
    assert data("health")["status"] == "SERVING"
    assert data("health", "saga.v1.SagaService")["status"] == "SERVING"
    assert "NO_SUCH_SERVICE" in run("health", "saga.v1.Nonsense", code=3).stderr
    (group,) = data("groups")
    assert group["served"] is True
    assert data("version")["coordinators"] == ["0.1.0"]
    assert not [each for each in data("doctor") if each["verdict"] == "wrong"]
    assert data("top")["counts"].keys() == {"RUNNING", "COMPENSATING", "NEEDS_ATTENTION"}
    methods = {each["method"]: each for each in data("list-methods")}
    assert methods["saga.v1.SagaService/WatchSaga"]["sends_stream"] is True
    assert "Starts a saga" in methods["saga.v1.SagaService/StartSaga"]["comment"]


def test_contexts(data: Data, coordinator: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These commands ask no server, so they get no address: their flags are what the context is made of."""
    surroundings = {"SAGACTL_CONFIG": str(tmp_path / "contexts.yaml")}
    schema_of = {
        name: json.loads(run_here("schema", *name.split(), "-o", "json").stdout)
        for name in OUTPUTS
        if name.startswith("context")
    }

    def context(name: str, *arguments: str) -> Any:
        done = run_here("context", name, *arguments, "-o", "json", environment=surroundings)
        assert done.returncode == 0, done
        read = json.loads(done.stdout)
        jsonschema.validate(read, schema_of[f"context {name}"])
        return read

    context("set", "here", "--address", coordinator.address, "--token", "secret")
    context("set", "there", "--address", "there:1", "--tls")
    context("use", "here")
    assert [each["is_current"] for each in context("list")] == [True, False]
    assert context("show")["token"] == "(hidden)"
    assert (tmp_path / "contexts.yaml").stat().st_mode & 0o077 == 0
    assert run_here("health", environment=surroundings).stdout == "SERVING\n"
    context("delete", "there")


def test_a_unix_socket_and_what_goes_along_with_a_call(
    serving: Callable[..., Serving], tmp_path: Path
) -> None:
    socket = f"unix:{tmp_path}/saga.sock"
    serving("--address", socket)
    assert run_here("health", "--address", socket).stdout == "SERVING\n"
    listing = ("sagas", "list", "--address", socket)
    assert run_here(*listing, "--namespace", "default").returncode == 0
    elsewhere = run_here(*listing, "--namespace", "elsewhere")
    assert (elsewhere.returncode, "there is only the namespace" in elsewhere.stderr) == (Ending.REFUSED, True)
    twice = run_here(*listing, "--namespace", "default", "-H", "saga-namespace: default")
    assert "given more than once" in twice.stderr


def test_what_the_contract_says_is_said_with_its_comments(run: Run, data: Data) -> None:
    said = run("describe", "StartSaga").stdout
    assert "Makes the start idempotent" in said
    assert "sagactl call StartSaga" in said
    assert data("describe", "saga.v1.SagaStatus")["values"][5]["comment"].startswith(
        "The saga cannot go on without a person"
    )
    assert data("describe", "Saga.remaining_effects")["kind"] == "field"


def test_any_method_can_be_called_and_streams_both_ways(run: Run, definition: str, data: Data) -> None:
    saga = started(data, definition)
    answered = run("call", "SagaService/GetSaga", "--set", f"saga_id={saga}", "-o", "yaml").stdout
    assert yaml.safe_load(answered)["saga"]["saga_id"] == saga
    first = run(
        "call", "WatchSaga", f"saga_id: {saga}", "--for", "1s", "-o", "jsonl", code=5
    ).stdout.splitlines()[0]
    assert json.loads(first)["entries"][0]["entry_type"] == "saga_started"
    asked = '{"list_services": "*"}\n{"file_containing_symbol": "saga.v1.NoSuch"}\n'
    both = run(
        "call", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "-", "-o", "jsonl", stdin=asked
    )
    listed, refused = map(json.loads, both.stdout.splitlines())
    assert {"name": "saga.v1.SagaService"} in listed["list_services_response"]["service"]
    assert refused["error_response"]["error_code"] == 5
    wrong = run(
        "call",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "-",
        code=2,
        stdin='{"list_services": "*"}\n{"nonsense": 1}\n',
    )
    assert "it takes: host" in wrong.stderr


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: f"{verb.group} {verb.name}".strip())
def test_a_verb_is_there_or_says_in_a_sentence_that_the_server_lacks_it(
    coordinator: Serving, verb: Verb
) -> None:
    """Once the server has the method, it is asked: it knows no such thing, or has something to say of the request."""
    named = [str(uuid.uuid4()) for _ in verb.arguments]
    sure = ["--yes"] if verb.is_act else []
    words = [part for part in (verb.group, verb.name) if part]
    done = run_here(*words, *named, *sure, "--address", coordinator.address, "--timeout", "60s")
    assert done.returncode in (Ending.LACKING, Ending.REFUSED, Ending.NOT_FOUND) or verb.name in (
        "audit",
        "stuck",
        "list",
    ), done
    if done.returncode == Ending.LACKING:
        assert done.stderr.startswith(
            f"error: this server cannot `{verb.name}` yet: it has no OperatorService/"
        )


ON_TERMINAL = (
    *(
        "sagas list",
        "sagas list -o wide",
        "sagas show SAGA",
        "sagas preview SAGA",
        "sagas acts SAGA",
        "groups",
        "acts",
        "doctor",
    ),
    *(
        "definitions list",
        "definitions get NAME",
        "participants list",
        "participants show shop",
        "participants health shop",
    ),
    *(
        "events list",
        "approvals list",
        "health",
        "version",
        "list-methods saga",
        "describe Saga",
        "schema sagas list",
    ),
    *(
        "call GetSaga --set saga_id=SAGA",
        "call WatchSaga --set saga_id=SAGA --set after_sequence=0 --for 1ms",
        "top --times 1",
    ),
    *("sagas pause SAGA --yes", "bulk list", "stuck", "ledger SAGA", "can-i StartSaga"),
)
"""Every command that changes nothing, and verbs that the server may lack."""


def test_every_screen_on_a_terminal(data: Data, definition: str, coordinator: Serving) -> None:
    """The commands that ask a person are in test_sagactl_bad_days.py."""
    saga = started(data, definition)
    for words in ON_TERMINAL:
        arguments = words.replace("SAGA", saga).replace("NAME", definition).split()
        with on_terminal(*arguments, "--address", coordinator.address, "--timeout", "60s") as program:
            code, shown = program.wait()
        assert code in (Ending.DONE, Ending.LACKING) or words.startswith("call WatchSaga"), shown
        assert "Traceback" not in shown
        assert shown.strip(), words


def test_every_command_is_here_with_its_schema() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    checked = set(re.findall(r'data\(\s*"([a-z -]+)"', source))
    checked |= {f"context {name}" for name in re.findall(r'context\("([a-z]+)"', source)}
    # `watch` and the two decisions of a person are run, too; see above.
    assert set(OUTPUTS) - checked == {"sagas watch", "approvals approve", "approvals reject"}
    assert set(OUTPUTS) == set(leaves(program)) - WITHOUT_SCHEMA


WITHOUT_SCHEMA = {"call", "schema", "completion"} | {
    " ".join(part for part in (verb.group, verb.name) if part) for verb in VERBS
}
"""The commands that write what a method answers, and those that write no data."""


def leaves(group: click.Group, path: str = "") -> Iterator[str]:
    """The commands by their words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from leaves(found, f"{path}{name} ")
        else:
            yield f"{path}{name}"

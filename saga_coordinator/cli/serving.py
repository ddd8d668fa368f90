"""The commands that run something: a coordinator, a database, the demo."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Never

import click

import saga_coordinator
from saga_coordinator import lifecycle, telemetry
from saga_coordinator.cli import ended_quietly_by_ctrl_c, supervisor
from saga_coordinator.cli.options import Failure, setting_flags, settings_of, tell_unknown_variables
from saga_coordinator.retrying import DATABASE_PAUSES, retried_in_thread
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.sockets import PORT_MAX
from saga_coordinator.store.embedded import EmbeddedPostgres
from saga_coordinator.store.embedded.watch import Watch

ALIVE_POLL_SECONDS = 0.5

DEV_DEFAULTS = {"log_sagas": "true"}
"""The settings of `dev` where the user gives none: a user who tries the program out wants to see something happen, and starts
few sagas.
"""

_postgres_bin = click.option(
    "--postgres-bin",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Where Postgres's programs are. Default: the system's, else those of saga-coordinator[embedded].",
)
_postgres_port = click.option(
    "--postgres-port",
    metavar="PORT",
    type=click.IntRange(1, PORT_MAX),
    help="The port of 127.0.0.1 that it listens on. Default: a free one, at each start.",
)


@click.command(short_help="Run a coordinator on a database of yours.")
@setting_flags()
@click.option(supervisor.ONE_OF_MANY, is_flag=True, hidden=True)
def serve(one_of_many: bool, **flags: Any) -> None:
    """Run a coordinator on a database that `saga-coordinator migrate` has prepared.

    Each setting is taken from its flag, else from the environment, else from the file that --config names.

    SIGTERM and Ctrl-C let calls in flight end; a second one stops at once. The participants file is read again when
    it changes, and on SIGHUP.
    """
    settings = settings_of(flags)
    if not one_of_many:
        tell_unknown_variables(settings)
    if one_of_many:
        supervisor.end_with_supervisor()
    elif settings.processes > 1:
        sys.exit(supervisor.supervise(settings, sys.argv[1:]))
    with ended_quietly_by_ctrl_c():
        # These imports take half a second, which help, a faulty flag and a supervisor do not need.
        from saga_coordinator import app  # noqa: PLC0415

    app.run(settings, shares_port=one_of_many)
    lifecycle.leave(telemetry.flush)


@click.command(short_help="Run a coordinator with a Postgres of its own, to try it.")
@click.option(
    "--data-dir",
    default=".saga",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the database is kept; made on first use. [default: .saga]",
)
@_postgres_bin
@_postgres_port
@setting_flags(without=("database_url", "database_wait_seconds", "processes"), defaults=DEV_DEFAULTS)
def dev(data_dir: Path, postgres_bin: Path | None, postgres_port: int | None, **flags: Any) -> None:
    """Run a coordinator for trying things out, with a Postgres of its own that needs no server."""
    with ended_quietly_by_ctrl_c():  # as in `serve`
        from saga_coordinator import app  # noqa: PLC0415
        from saga_coordinator.api.listening import check_addresses  # noqa: PLC0415
        from saga_coordinator.participants.directory.addresses import Directory  # noqa: PLC0415
        from saga_coordinator.store import schema  # noqa: PLC0415

    ends_with_terminal = _ends_with_terminal()
    # Faults of the settings are told before a database is made, which takes seconds.
    checked = settings_of(flags, database_url="postgresql://checked-before-it-is-started/")
    tell_unknown_variables(checked)
    check_addresses(checked.addresses)
    if checked.participants is not None:
        Directory.load(checked.participants)
    _make_folder(data_dir)
    with _stopped_by_signals():
        database = EmbeddedPostgres(data_dir, postgres_bin=postgres_bin, port=postgres_port)
        if not database.is_made:
            click.echo(f"making a database in {data_dir}", err=True)
        with Watch(database, _say_of_database):
            schema.upgrade(database.dsn)
            settings = settings_of(flags, defaults=DEV_DEFAULTS, database_url=database.dsn)
            app.run(
                settings,
                lambda addresses: _welcome(addresses, database, settings.participants),
                ends_with_terminal=ends_with_terminal,
            )
    lifecycle.leave(telemetry.flush)


def _say_of_database(sentence: str) -> None:
    telemetry.logger().error("embedded_postgres", reason=sentence)


def _make_folder(data_dir: Path) -> None:
    """Makes the folder, and hides it from git: it holds a password and a database."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = data_dir / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise Failure(f"{data_dir}: {error.strerror}") from None


def _welcome(addresses: tuple[str, ...], database: EmbeddedPostgres, participants: Path | None) -> None:
    definition = _examples() / "order_fulfilment" / "definition.yaml"
    other = "" if addresses[0] == "127.0.0.1:7242" else f" --address {addresses[0]}"
    welcome = (
        f"saga-coordinator {saga_coordinator.__version__}, for development\n"
        f"  address       {', '.join(addresses)}\n"
        f"  database      {database.dsn}\n"
        f"  data          {database.data_dir}\n"
        f"  participants  {participants or 'none; name a file with --participants'}\n"
        "Try it, from another terminal:\n"
        f"  saga-coordinator definition apply {_shortest(definition)}{other}\n"
        "  buf curl --protocol grpc --http2-prior-knowledge "
        f"{_for_curl(addresses[0])}/saga.v1.DefinitionService/ListDefinitions\n"
        "Ctrl-C stops it; the data stays."
    )
    with contextlib.suppress(OSError):  # it serves, whether or not anybody reads this
        click.echo(welcome)


def _for_curl(address: str) -> str:
    """The address as `buf curl` takes it."""
    if address.startswith("unix:"):
        return f"--unix-socket {address.removeprefix('unix:')} http://localhost"
    return f"http://{address}"


def _shortest(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


@click.command()
@setting_flags(only=("database_url", "database_wait_seconds"))
def migrate(**flags: Any) -> None:
    """Bring the database's schema up to what this program needs."""
    settings = settings_of(flags)
    before, after = _upgrade(settings.database_url, settings.database_wait_seconds)
    change = "unchanged" if before == after else f"was {before or 'none'}"
    click.echo(f"schema {after} ({change})")


def _upgrade(database_url: str, wait_seconds: float) -> tuple[str, str]:
    from saga_coordinator.store import schema  # noqa: PLC0415  # as in `serve`

    return retried_in_thread(
        lambda: schema.upgrade(database_url),
        Unavailable,
        DATABASE_PAUSES,
        tell=lambda error: click.echo(f"waiting for the database: {' '.join(str(error).split())}", err=True),
        seconds_max=wait_seconds,
    )


@click.command()
@click.option(
    "--data-dir",
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the database is kept; made on first use.",
)
@_postgres_bin
@_postgres_port
def postgres(data_dir: Path, postgres_bin: Path | None, postgres_port: int | None) -> None:
    """Run an embedded Postgres, for tests and demos.

    Prints `postgres: URL` once it accepts connections. It ends with SIGTERM, with Ctrl-C, or when its standard input is closed,
    so that it does not outlive the program that started it. If standard input is /dev/null, as of a background job in a script,
    it runs until a signal comes.
    """
    has_ended = _never if _is_input_null() else _is_input_closed
    with (
        contextlib.suppress(KeyboardInterrupt),
        _stopped_by_signals(),
        EmbeddedPostgres(data_dir, postgres_bin=postgres_bin, port=postgres_port) as server,
    ):
        click.echo(f"postgres: {server.dsn}")
        while not has_ended():
            # The end of the process is seen without reaping it: only the process that started it may do that.
            if os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                raise Failure(f"Postgres has ended by itself; see {server.log_path}")
        with contextlib.suppress(OSError):  # whoever closed it may read nothing any more either
            click.echo("standard input was closed: Postgres is stopped", err=True)


def _is_input_null() -> bool:
    """Tells whether standard input is the null device. Then the program that started this one does not hold the input's other
    end.
    """
    try:
        return os.path.samestat(os.fstat(sys.stdin.fileno()), Path(os.devnull).stat())
    except (OSError, ValueError):
        return False


def _never() -> bool:
    time.sleep(ALIVE_POLL_SECONDS)
    return False


def _is_input_closed() -> bool:
    """Waits a moment for the end of standard input."""
    readable, _, _ = select.select([sys.stdin], [], [], ALIVE_POLL_SECONDS)
    return bool(readable) and not os.read(sys.stdin.fileno(), 65536)


def _ends_with_terminal() -> bool:
    """Tells whether the process ends with its terminal. It does not if nohup started it."""
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Makes SIGTERM, and SIGHUP when the terminal is closed, end the block as an exception does, so that everything that the
    block started is stopped.
    """

    def stop(_: int, __: FrameType | None) -> Never:
        raise click.exceptions.Exit(0)

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if _ends_with_terminal() else [])]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command(
    short_help="Run the example, and show what can go wrong.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Run the example: Postgres, a coordinator and three services, with what goes wrong in life.

    Further arguments, --help among them, are the example's own.
    """
    missing = [name for name in ("saga_client", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        raise Failure(
            f"the demo's services need {' and '.join(missing)}: install the demo's own requirements with "
            "`pip install 'saga-coordinator[demo]'`"
        )
    path = os.pathsep.join([str(_examples()), *filter(None, [os.environ.get("PYTHONPATH")])])
    # The demo handles Ctrl-C itself once its imports are done. Until then, Ctrl-C ends the process without a traceback.
    code = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "runpy.run_module('order_fulfilment.demo', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", code, *arguments]
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})  # noqa: S606  # there is no shell to do without


def _examples() -> Path:
    """The folder that holds the package `order_fulfilment`. In a source tree it is beside this package, in a wheel inside
    it.
    """
    package = Path(saga_coordinator.__file__).resolve().parent
    for folder in (package.parent / "examples", package / "examples"):
        if (folder / "order_fulfilment").is_dir():
            return folder
    raise Failure(
        "this installation does not have the examples; install saga-coordinator from a wheel or a source tree"
    )

"""The commands, and how each ends: quietly, or with one line for each error."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import click

from saga_coordinator import __version__
from saga_coordinator.cli.options import Failure
from saga_coordinator.config import FileFaulty, SettingsFaulty
from saga_coordinator.saga.errors import InvalidRequest, SagaError

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

MODULES: Mapping[str, str] = {
    "definition": "definitions",
    "demo": "serving",
    "dev": "serving",
    "health": "health",
    "migrate": "serving",
    "postgres": "serving",
    "serve": "serving",
    "version": "program",
}
"""Where each command is. Containers ask for the health every few seconds; that must not cost the import of everything."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in MODULES:
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=MODULES, ctx=ctx)
        module: Any = importlib.import_module(f"saga_coordinator.cli.{MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.command(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
def program() -> None:
    """Carries business transactions across services, remembers them in Postgres, and undoes them in reverse when a step fails."""


@click.command()
def version() -> None:
    """Print this program's version."""
    click.echo(f"saga-coordinator {__version__}")


def run() -> None:
    """Runs the command that the arguments name, and exits. 1: it failed; 2: it was called wrongly."""
    try:
        sys.exit(program.main(prog_name="saga-coordinator", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except Failure as failure:
        _fail(failure.lines, failure.exit_code)
    except SettingsFaulty as error:
        _fail(error.faults, 2)
    except FileFaulty as error:
        _fail([str(error)], 1)
    except InvalidRequest as error:
        _fail([str(fault) for fault in error.faults], 1)
    except SagaError as error:
        _fail([str(error)], 1)


def _fail(lines: list[str] | tuple[str, ...], exit_code: int) -> None:
    for line in lines:
        click.echo(f"error: {' '.join(line.split())}", err=True)
    sys.exit(exit_code)

"""Flags that several commands share, and the error that ends a command."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import click

from saga_coordinator import telemetry
from saga_coordinator.config import (
    CONFIG_VARIABLE,
    OPTIONS,
    Option,
    Settings,
    load_settings,
    unknown_variables,
)

_Command = TypeVar("_Command", bound=Callable[..., Any])

_ADDRESSES = next(option for option in OPTIONS if option.name == "addresses")
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # replaced, not listened on


class Failure(Exception):
    """An error that ends the command with `exit_code`. Each of `lines` is one error message."""

    def __init__(self, *lines: str, exit_code: int = 1) -> None:
        self.lines = lines
        self.exit_code = exit_code
        super().__init__("; ".join(lines))


def setting_flags(
    *,
    without: Sequence[str] = (),
    only: Sequence[str] = (),
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[_Command], _Command]:
    """Adds a flag for each setting, and `--config`. The command gets the flags as keyword arguments, for `settings_of`.

    `defaults` are the command's own, which its help shows.
    """

    def decorate(command: _Command) -> _Command:
        config = click.option(
            "--config",
            metavar="FILE",
            type=click.Path(path_type=Path),
            envvar=CONFIG_VARIABLE,
            help=f"TOML or YAML file with settings, named like the flags with `_` for `-`. [env: {CONFIG_VARIABLE}]",
        )
        for option in reversed(OPTIONS):
            if option.name not in without and (not only or option.name in only):
                command = _flag(option, defaults.get(option.name, option.default))(command)
        return config(command)

    return decorate


def _flag(option: Option, default: str | None) -> Callable[[_Command], _Command]:
    bounds = f"; {option.bounds}" if option.bounds and "|" not in option.metavar else ""
    otherwise = f"; default: {default}" if default else ""
    return click.option(
        option.flag,
        option.name,
        multiple=option.is_repeatable,
        metavar=option.metavar,
        help=f"{option.help} [env: {option.variable}{bounds}{otherwise}]",
    )


def settings_of(
    flags: Mapping[str, Any], *, defaults: Mapping[str, str] = MappingProxyType({}), **more: str
) -> Settings:
    """The settings from a command's flags. `more` holds the settings that the command itself decides, `defaults` the command's
    own defaults.

    Raises:
        SettingsFaulty: with every fault.
    """
    given = {name: value for name, value in flags.items() if name != "config"}
    return load_settings({**given, **more}, os.environ, flags["config"], defaults=defaults)


def tell_unknown_variables(settings: Settings) -> None:
    """Logs a warning for each variable of the environment that looks like a setting and is none."""
    unknown = unknown_variables(os.environ)
    if unknown:
        telemetry.configure(log_format=settings.log_format, log_level=settings.log_level)
    for variable, meant in unknown.items():
        telemetry.logger().warning("setting_unknown", variable=variable, did_you_mean=meant)


def address_flag(command: _Command) -> _Command:
    """Adds `--address`, the address of a running coordinator. The command gets the address in the form that gRPC dials."""

    def parse(_: click.Context, __: click.Parameter, written: str) -> str:
        try:
            (address, *_rest) = _ADDRESSES.parse(written)
        except ValueError as error:
            raise click.BadParameter(f"{written!r} {error}") from None
        host, colon, port = str(address).rpartition(":")
        return f"{_WILDCARDS.get(host, host)}{colon}{port}"

    return click.option(
        "--address",
        metavar="ADDRESS",
        envvar=_ADDRESSES.variable,
        default=_ADDRESSES.default,
        callback=parse,
        help=f"Where the coordinator is: HOST:PORT or unix:PATH. [env: {_ADDRESSES.variable}, the first one; default: "
        f"{_ADDRESSES.default}]",
    )(command)

"""Contexts: named connections in a file, so that `--context production` says all of an address, TLS and a token."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sagactl.endings import NotFound, WrongUsage

CONFIG_VARIABLE = "SAGACTL_CONFIG"

FIELDS: Mapping[str, str] = {
    "address": "where the server is: HOST:PORT or unix:PATH",
    "tls": "whether to speak TLS",
    "ca_file": "PEM file of the roots to trust; implies TLS",
    "cert_file": "PEM file of the client certificate; implies TLS",
    "key_file": "PEM file of the client certificate's key",
    "server_name": "the name in the server's certificate, if it is not the address",
    "token": "a bearer token; better a command or a file",
    "token_file": "a file with a bearer token",
    "token_command": "a command that prints a bearer token",
    "namespace": "the namespace that calls are about",
    "timeout": "how long a call may take, such as 10s",
    "descriptor_set": "a FileDescriptorSet, for servers without reflection",
    "requested_by": "who asks, for the record of acts",
}
"""What a context may say, and what it means."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of the file at `path`, and the name of the current one, which may be empty."""

    path: Path
    current: str = ""
    named: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def get(self, name: str) -> Mapping[str, Any]:
        """The fields of a context. Raises NotFound."""
        if name not in self.named:
            known = (
                ", ".join(self.named)
                or "none yet; make one with `sagactl context set NAME --address HOST:PORT`"
            )
            raise NotFound(f"{self.path} has no context `{name}`; it has: {known}")
        return self.named[name]

    def put(self, name: str, fields: Mapping[str, Any]) -> Contexts:
        """The contexts with one more or another one of that name. The first context becomes the current one."""
        return replace(self, current=self.current or name, named={**self.named, name: dict(fields)})

    def without(self, name: str) -> Contexts:
        """The contexts without that one. Raises NotFound."""
        self.get(name)
        kept = {other: fields for other, fields in self.named.items() if other != name}
        return replace(self, current="" if self.current == name else self.current, named=kept)

    def using(self, name: str) -> Contexts:
        """The contexts with that one as the current one. Raises NotFound."""
        self.get(name)
        return replace(self, current=name)


def contexts_path(environment: Mapping[str, str]) -> Path:
    """The file of the contexts: SAGACTL_CONFIG, else `sagactl/contexts.yaml` where the user's settings are."""
    if named := environment.get(CONFIG_VARIABLE):
        return Path(named)
    settings = environment.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(settings).expanduser() / "sagactl" / "contexts.yaml"


def read_contexts(environment: Mapping[str, str]) -> Contexts:
    """Reads the file; without one there are no contexts. Raises WrongUsage."""
    path = contexts_path(environment)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Contexts(path)
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{path}: the contexts cannot be read: {error}") from None
    import yaml  # noqa: PLC0415  # only those who have contexts wait for it

    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise WrongUsage(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
    return _checked(path, content)


def _checked(path: Path, content: Any) -> Contexts:
    named = content.get("contexts") or {} if isinstance(content, dict) else None
    if not isinstance(named, dict) or set(content) - {"current", "contexts"}:
        raise WrongUsage(f"{path}: must have `current` and `contexts`, and nothing else")
    for name, fields in named.items():
        unknown = set(fields) - FIELDS.keys() if isinstance(fields, dict) else {"no object"}
        if unknown:
            raise WrongUsage(
                f"{path}: context `{name}`: unknown {', '.join(sorted(unknown))}; known: {', '.join(FIELDS)}"
            )
    return Contexts(
        path, str(content.get("current") or ""), {str(name): fields for name, fields in named.items()}
    )


def write_contexts(contexts: Contexts) -> None:
    """Replaces the file as a whole. Only its owner may read it, because a context may hold a token. Raises WrongUsage."""
    import yaml  # noqa: PLC0415

    content = {
        "current": contexts.current,
        "contexts": {name: dict(fields) for name, fields in contexts.named.items()},
    }
    try:
        contexts.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=contexts.path.parent, prefix=".contexts-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yaml.safe_dump(content, file, sort_keys=False, allow_unicode=True)
        Path(scratch).replace(contexts.path)
    except OSError as error:
        raise WrongUsage(f"{contexts.path}: the contexts cannot be written: {error}") from None

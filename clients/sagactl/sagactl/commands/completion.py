"""`sagactl completion`."""

from __future__ import annotations

import click

from sagactl.invocation import NAME


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete the commands, flags and live values of this program.

      bash: source <(sagactl completion bash)

      zsh:  source <(sagactl completion zsh)

      fish: sagactl completion fish | source
    """  # fmt: skip
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    found = get_completion_class(shell)
    assert found is not None
    script = found(ctx.find_root().command, {}, NAME, "_SAGACTL_COMPLETE")
    click.echo(script.source_template % script.source_vars())

"""The command line, ``mpnn-arch``: one command per file, loaded on demand.

A command's module imports torch and other large packages inside the command, so that
``mpnn-arch --help`` answers in under a second.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from typing import Any

import click

from mpnn_arch import __version__
from mpnn_arch.checks import meant, shown
from mpnn_arch.cli.failures import exit_code_of, past_click
from mpnn_arch.cli.group import in_group, is_group
from mpnn_arch.cli.numbers import read_strictly
from mpnn_arch.cli.streams import prepare_streams
from mpnn_arch.errors import InputError

# name -> (module, function); the modules are light, see above.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("mpnn_arch.cli.train", "train"),
    "explore": ("mpnn_arch.cli.explore", "explore"),
    "graphs": ("mpnn_arch.cli.graphs", "graphs"),
    "models": ("mpnn_arch.cli.models", "models"),
    "compare": ("mpnn_arch.cli.compare", "compare"),
    "sweep": ("mpnn_arch.cli.sweep", "sweep"),
    "status": ("mpnn_arch.cli.status", "status"),
    "export": ("mpnn_arch.cli.export", "export"),
    "replay": ("mpnn_arch.cli.replay", "replay"),
    "report": ("mpnn_arch.cli.report", "report"),
    "gnn": ("mpnn_arch.cli.gnn", "gnn"),
    "verify": ("mpnn_arch.cli.verify", "verify"),
    "bench": ("mpnn_arch.cli.bench", "bench"),
}

# Those that multiply matrices.
COMPUTING = {"bench", "train", "compare", "gnn", "explore", "verify", "sweep", "replay"}


class LazyGroup(click.Group):
    """A click group that imports a command's module when the command is used."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click does, which prints the help here."""
        with past_click():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does."""
        with past_click():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), function)
        return read_strictly(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a name that is unknown is compared with those that are."""
        hint = meant(args[0], COMMANDS)
        if args[0] not in COMMANDS and hint and not ctx.resilient_parsing:
            ctx.fail(f"There is no command {shown(args[0])}{hint}.")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Neural-network layers as rounds of message passing on a relational graph."""
    if ctx.invoked_subcommand in COMPUTING:
        _check_current_folder()


def _check_current_folder() -> None:
    """Refuse a current folder that was deleted: MKL ends the process there, at its first product.

    Raises:
        InputError: it was.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise InputError(
            "the current folder was deleted or replaced; change to one that is there (cd)"
        ) from None


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit; see :mod:`mpnn_arch.cli.failures` for the exit codes."""

    def command() -> object:
        return cli.main(args=argv, prog_name="mpnn-arch", standalone_mode=False)

    prepare_streams()
    if is_group():
        arguments = sys.argv[1:] if argv is None else argv
        code = exit_code_of(lambda: in_group(arguments, command))
    else:
        code = exit_code_of(command)
    if code == 130 and argv is None:
        # Ctrl-C, and everything is recorded. Unloading torch takes seconds on a busy machine.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(130)
    sys.exit(code)

"""Where a command does its work: on this machine, or at the service that `--server` or AUTOPEFT_SERVER names.

A database that the command line names comes before a service that only the environment names. What is the operator's to
say is refused beside a service, and what no service does is not done here in its place. AUTOPEFT_STORAGE decides none
of that: it was given to no command.
"""

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from autopeft.plan import Resources
from autopeft.searching.commands import command

if TYPE_CHECKING:
    from autopeft.cli.remote import Server

SERVED = ("search", "list", "report", "select", "export")
"""Commands that ask a service where one is named."""


def served() -> "Server | None":
    """The service that the command asks, if any. Raises UsageError for options that are for its operator."""
    if not (url := _named()):
        return None
    if given := [f"--{each.name.replace('_', '-')}" for each in fields(Resources) if _is_given(each.name)]:
        raise click.UsageError(
            f"{', '.join(given)} is for the operator of the service to say; leave it out, or {leaving()}."
        )
    from autopeft.cli.remote import Server

    return Server(url, os.environ.get("AUTOPEFT_TOKEN", "").strip())


def require_here(instead: str = "use its pages") -> None:
    """For what no service does for a command line. Raises UsageError where one is named."""
    if url := _named():
        verb = click.get_current_context().info_name
        raise click.UsageError(
            f"{verb} works on this machine alone, and a service is named, {url}: {instead}, {leaving()}, or give "
            "--storage."
        )


def leaving() -> str:
    """How to name no service."""
    by_hand = _is_given("server", click.get_current_context().find_root())
    return "leave out --server" if by_hand else "unset AUTOPEFT_SERVER"


def next_command(verb: str, *words: str, **options: Any) -> str:
    """A command to go on with, which asks the same service as this one."""
    whole, server = command(verb, *words, **options), served()
    return whole if server is None else whole.replace("autopeft", f"autopeft --server {server.url}", 1)


def _named() -> str:
    """The address of the service that counts; empty for none."""
    root = click.get_current_context().find_root()
    url = (root.params.get("server") or "").strip()
    return "" if _is_given("storage") and not _is_given("server", root) else url


def _is_given(name: str, context: click.Context | None = None) -> bool:
    """Whether the command line has an option, by itself."""
    source = (context or click.get_current_context()).get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE

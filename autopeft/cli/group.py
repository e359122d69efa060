"""The program itself: its commands in order, and how it ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from autopeft.cli.printing import harmless, say
from autopeft.cli.where import SERVED
from autopeft.errors import AutopeftError
from autopeft.foreign import brief

IN_VAIN, ANSWERED, INTERRUPTED, TERMINATED = 1, 2, 130, 143
"""Exit codes: ended without a result; a slip, or a refusal; Ctrl-C; SIGTERM."""


class Commands(click.Group):
    """Commands in the order of their use, not of the alphabet. An AutopeftError is an answer, not a crash, and so is
    what the system refuses.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # For what an encoding other than UTF-8 does not have.
        try:
            return super().main(*args, **extra)
        except OSError as error:
            sys.stdout = None  # Else Python tries once more to write what could not be written.
            where = f" {brief(error.filename, 100)}" if error.filename else ""
            say(f"Error: the system refuses{where}: {error.strerror}.", err=True)
            sys.exit(ANSWERED)

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _harmless_usage_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _harmless_usage_errors():
                return super().invoke(ctx)
        except AutopeftError as error:
            say(f"Error: {error}", err=True)
            ctx.exit(ANSWERED)
        except SystemExit as error:  # Commands end by `ctx.exit`; this would be told as an end in good order.
            say(f"Error: code that ran within asked the program to exit ({brief(error.code)}).", err=True)
            ctx.exit(IN_VAIN)


@contextmanager
def _harmless_usage_errors() -> Iterator[None]:
    """click repeats what was typed, by itself."""
    try:
        yield
    except click.UsageError as error:
        raise click.UsageError(harmless(error.format_message()), error.ctx) from None


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="""
\b
Examples:
  autopeft search --demo
  autopeft search --model bert-base-uncased --data train.csv --memory 8GiB --trainable 1% --trials 60
  autopeft report --to report.html
  autopeft select --memory 6GiB --trainable 500k
  autopeft export NAME 7 --to winner/

Sizes are written like 8GiB or 500MB, counts like 500k or 1.5M, shares like 1%, durations like 90s, 30m or 2h.
""",
)
@click.option(
    "--server",
    metavar="URL",
    envvar="AUTOPEFT_SERVER",
    help="Ask a service for search, list, report, select and export; its token stands in AUTOPEFT_TOKEN.",
)
@click.version_option(package_name="autopeft", message="%(version)s")
@click.pass_context
def main(context: click.Context, server: str | None) -> None:
    """Finds the parameter-efficient fine-tuning (PEFT) methods that suit a model, a dataset and a budget.

    A search trains candidates that fit the budget and remembers all of them; its answer is the front of trials that no
    other trial beats in every objective.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise AutopeftError("the folder that you are in was removed; go to another one.") from error
    by_hand = context.get_parameter_source("server") is click.core.ParameterSource.COMMANDLINE
    if server and by_hand and context.invoked_subcommand not in SERVED:
        raise click.UsageError(f"--server is for {', '.join(SERVED)}; leave it out. The service's pages do more.")

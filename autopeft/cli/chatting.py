"""Talking to a winner in a terminal."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autopeft.cli.printing import harmless, say
from autopeft.errors import AutopeftError

if TYPE_CHECKING:
    from autopeft.artifacts import TrainedModel


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--model", metavar="MODEL", help="Where the backbone lies now, if elsewhere.")
@click.option(
    "--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Tokens of an answer, at most."
)
@click.option("--trust-remote-code", is_flag=True, help="Let code that comes with the backbone run.")
def chat(folder: Path, model: str | None, max_new_tokens: int, trust_remote_code: bool) -> None:
    """Talk to a language model that was exported to FOLDER, turn by turn. An empty line ends it."""
    from autopeft.artifacts import load
    from autopeft.backbone.load import quietly

    with quietly():
        loaded = load(folder, model, trust_remote_code=trust_remote_code)
    loaded.generate([])  # Which a model that writes no texts refuses before anybody has typed.
    turns: list[dict[str, str]] = []
    while said := _heard():
        given: Any = said
        if loaded.task.in_turns:
            turns.append({"role": "user", "content": said})
            given = turns
        try:
            answer = _told(loaded, given, max_new_tokens)
        except AutopeftError as error:
            say(f"{error}{' The conversation begins anew.' if len(turns) > 1 else ''}", err=True)
            turns.clear()
            continue
        turns.append({"role": "assistant", "content": answer})


def _told(loaded: "TrainedModel", given: Any, most: int) -> str:
    """The answer, which is shown as it is written."""
    answer: str = loaded.generate(given, most, stream=lambda piece: click.echo(harmless(piece), nl=False))
    say("")
    return answer


def _heard() -> str:
    """What somebody types; nothing at the end of all."""
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""

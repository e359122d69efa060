"""No command prints or writes the password of a database, whatever shape its URL has and however the command ends."""

import signal
import traceback
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from autopeft.cli import main
from autopeft.events import Begun
from tests.reports.records import record
from tests.user import user_folder

SECRET = "hush"
SHAPES = [
    "postgresql://me:hush@127.0.0.1:1/name",
    "postgresql+psycopg://me:hush@127.0.0.1:1/name",
    "mysql+pymysql://me:hush@127.0.0.1:1/name",
    "nothing://me:hush@host/name",
    "postgresql://me:hush@host:port/name",
    "postgresql://me:hush/name",
    "postgresql://me:x@hush@host/name",
    "postgresql//me:hush@host/name",
    "me:hush@host/name",
    "postgresql://me:p%40%68ush@127.0.0.1:1/name",
    "postgresql://127.0.0.1:1/name?user=me&password=hush",
    "postgresql://127.0.0.1:1/name?sslpassword=hush&token=hush",
    "host=127.0.0.1 user=me password=hush",
    "sqlite://me:hush@/{folder}/x.db",
    "sqlite:///{folder}/x.db?password=hush",
    "sqlite:///file:{folder}/x.db?timeout=soon&uri=true&key=hush",
    "sqlite:///file:{folder}/x.db?uri=true&key=hush",
    "sqlite:///file:{folder}/none/x.db?uri=true&key=hush",
]
COMMANDS = [name for name, each in main.commands.items() if any(p.name == "storage" for p in each.params)]
GIVEN: Mapping[str, Any] = {"model": "m", "data": "d", "name": "reviews", "trial": 1, "seeds": 1, "workers": 0}


def arguments(command: click.Command, folder: Path, **given: object) -> list[str]:
    """A command with all that it needs, and a name; what no test knows of is its own name."""
    known = {**GIVEN, "folder": folder / "runs", "to": folder / "winner", **given}
    said = [command.name or ""]
    for each in command.params:
        if not (each.required or each.name in known):
            continue
        value = str(known.get(each.name or "", each.name))
        said += [value] if isinstance(each, click.Argument) else [each.opts[0], value]
    return said


def everything(result: Result) -> str:
    """All that came out: what was printed, and every exception with its causes."""
    raised = "".join(traceback.format_exception(*result.exc_info)) if result.exc_info else ""
    return result.output + result.stderr + repr(result.exception) + raised


def decoded(text: str) -> str:
    return text.replace("%68", "h")


def run(*said: str) -> Result:
    return CliRunner().invoke(main, list(said), prog_name="autopeft")


@pytest.fixture(autouse=True)
def nothing_serves_for_ever(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: None)
    yield
    signal.signal(signal.SIGTERM, before)


def test_the_commands_with_a_database_are_found() -> None:
    assert {"search", "resume", "confirm", "report", "select", "export", "list"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_tells_a_password_of_a_database_that_cannot_be_used(command: str, tmp_path: Path) -> None:
    for shape in SHAPES:
        storage = shape.format(folder=tmp_path)
        result = run(*arguments(main.commands[command], tmp_path, storage=storage))
        assert SECRET not in decoded(everything(result)), shape
        assert "Traceback" not in result.output, shape
        assert isinstance(result.exception, SystemExit | None), (shape, result.exception)


@pytest.mark.parametrize("command", ["search", "resume", "confirm"])
def test_advice_after_an_interrupt_hides_the_password_and_says_so(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, on_event: Any, **__: object) -> None:
        on_event(Begun(record()))
        raise KeyboardInterrupt

    module = import_module("autopeft.searching.search")
    monkeypatch.setattr(module, command if command != "confirm" else "open_search", interrupted)
    if command == "confirm":
        opened = type("Opened", (), {"confirm": staticmethod(lambda _, **rest: interrupted(**rest))})
        monkeypatch.setattr(module, "open_search", lambda *_: opened)
    storage = "postgresql://me:hush@host/name"
    result = run(*arguments(main.commands[command], tmp_path, storage=storage))
    assert result.exit_code == 130
    assert SECRET not in everything(result)
    assert "--storage 'postgresql://me:***@host/name'" in result.stderr
    assert result.stderr.endswith("Put back what *** hides in --storage.\n")


def test_no_command_tells_or_writes_a_password_of_a_database_that_works(tmp_path: Path) -> None:
    user_folder(tmp_path)
    storage = f"sqlite:///file:{tmp_path}/x.db?uri=true&key=hush"
    paths = {"model": tmp_path / "model", "data": tmp_path / "reviews.csv", "storage": storage}
    small = ("--trials", "1", "--methods", "bitfit", "--max-length", "16", "--space", "quick")
    results = {"search": run(*arguments(main.commands["search"], tmp_path, **paths), *small)}
    for command in [each for each in COMMANDS if each != "search"]:
        results[command] = run(*arguments(main.commands[command], tmp_path, **paths))
    for more in ("--format=csv", "--format=json", f"--to={tmp_path}/page.html"):
        results[more] = run("report", more, "--storage", storage)
    for what, result in results.items():
        assert SECRET not in everything(result), what
    done = {what for what, result in results.items() if result.exit_code == 0}
    assert done >= {"search", "confirm", "report", "select", "export", "list", "--format=csv", "--format=json"}, (
        everything(results["search"])
    )
    assert "--storage 'sqlite:///file:" in results["search"].output
    assert results["search"].output.endswith("Put back what *** hides in --storage.\n")
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"x.db", "page.html"} <= {file.name for file in written}
    assert not [file for file in written if SECRET.encode() in file.read_bytes()]

"""The command line: one function per command, no logic of its own.

Importing this module imports neither torch nor ray nor transformers, so that `--help` answers at once: commands import
what they need. Options are made from the dataclasses of `plan.py`, whose field docstrings are their help. An
`AutopeftError` is printed as one sentence with exit code 2; what ends without a result has exit code 1. Everything is
printed by `_say`, but for reports, which are safe to print as they are; URLs of databases are `shown`.
"""

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

import click

from autopeft.errors import AutopeftError
from autopeft.foreign import brief, printable
from autopeft.plan import OBJECTIVES, Budget, Plan, Resources, field_docs
from autopeft.storage.urls import shown

if TYPE_CHECKING:
    from autopeft.events import Event
    from autopeft.search.search import Search
    from autopeft.trial import SearchRecord

_Command = TypeVar("_Command", bound=Callable[..., Any])

_SIZES = {
    "memory": "SIZE",
    "stored": "SIZE",
    "trainable": "COUNT|SHARE",
    "flops": "COUNT",
    "overhead": "SHARE",
    "latency": "DURATION",
    "time": "DURATION",
    "timeout": "DURATION",
}
"""Options that the dataclasses read as text, and how to write them."""
_DEMO: Mapping[str, Any] = {"space": "quick", "max_length": 32, "sampler": "tpe"}
"""A sampler that goes on trying all kinds: `known_costs` may narrow down to one within so few trials."""
_DEMO_LIMITS: Mapping[str, Any] = {"trials": 16, "time": "6m"}
_ESTIMATING = 4
"""Processes that share an estimate, at most: each begins with importing libraries, and reading the model's shape."""
_IN_VAIN, _ANSWERED, _INTERRUPTED, _TERMINATED = 1, 2, 130, 143
"""Exit codes: ended without a result; a slip, or a refusal; Ctrl-C; SIGTERM."""
_PIPED_WIDTH = 160


def _say(text: str = "", err: bool = False) -> None:
    """Prints text that may be others', in which what a terminal would obey is shown escaped."""
    click.echo(printable(text), err=err)


class _Commands(click.Group):
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
            _say(f"Error: the system refuses{where}: {error.strerror}.", err=True)
            sys.exit(_ANSWERED)

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AutopeftError as error:
            _say(f"Error: {error}", err=True)
            ctx.exit(_ANSWERED)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="""
\b
Examples:
  autopeft search --demo
  autopeft search --model bert-base-uncased --data train.csv --memory 8GiB --trainable 1% --trials 60
  autopeft report --html report.html
  autopeft select --memory 6GiB --trainable 500k
  autopeft export NAME 7 --to winner/

Sizes are written like 8GiB or 500MB, counts like 500k or 1.5M, shares like 1%, durations like 90s, 30m or 2h.
""",
)
@click.version_option(package_name="autopeft", message="%(version)s")
def main() -> None:
    """Finds the parameter-efficient fine-tuning (PEFT) methods that suit a model, a dataset and a budget.

    A search trains candidates that fit the budget and remembers all of them; its answer is the front of trials that no
    other trial beats in every objective.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise AutopeftError("the folder that you are in was removed; go to another one.") from error


def _options(kind: type, *leave_out: str) -> Callable[[_Command], _Command]:
    """One option for each field of a dataclass; what is not given is None."""

    def decorate(command: _Command) -> _Command:
        hints, docs = get_type_hints(kind), field_docs(kind)
        for each in reversed(fields(kind)):
            if each.name in leave_out:
                continue
            default = ",".join(each.default) if isinstance(each.default, tuple) else each.default
            silent = default in (None, "", MISSING) or isinstance(default, bool)
            shown = "" if silent else f"  [default: {default}]"
            command = click.option(
                f"--{each.name.replace('_', '-')}",
                each.name,
                **_kind(each.name, hints[each.name]),
                help=docs[each.name] + shown,
            )(command)
        return command

    return decorate


def _kind(name: str, hint: Any) -> dict[str, Any]:
    """How the option of a field is given: a flag, or with a value."""
    if hint is bool:
        return {"is_flag": True, "default": None}
    return {"type": str if name in _SIZES else _scalar(hint), "metavar": _SIZES.get(name) or _metavar(hint)}


def _scalar(hint: Any) -> type:
    """What the option of a field is read as; several values are one text with commas."""
    kind = next(one for one in get_args(hint) if one is not type(None)) if isinstance(hint, UnionType) else hint
    return kind if kind in (int, float) else str


def _metavar(hint: Any) -> str | None:
    return "NAME[,NAME…]" if get_args(hint)[:1] == (str,) and ... in get_args(hint) else None


def _given(options: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """The options that belong to a dataclass and were given."""
    return {each.name: options[each.name] for each in fields(kind) if options.get(each.name) is not None}


_storage = click.option(
    "--storage", default=Resources.storage, show_default=True, help=field_docs(Resources)["storage"]
)
_folder = click.option(
    "--folder",
    metavar="FOLDER",
    help=f"The run folder, where it does not lie where it was.  [default: {Resources.folder}]",
)
_name = click.argument("name", required=False)
_MOVED = {
    "model": "Where the model lies now, if elsewhere.",
    "data": "Where the data lies now, if elsewhere.",
    "space": "Where the folder of your own cards lies now, if elsewhere.",
}


def _moved(*names: str) -> Callable[[_Command], _Command]:
    """Options for what a plan names and was moved since."""

    def decorate(command: _Command) -> _Command:
        for name in reversed(names):
            command = click.option(f"--{name}", help=_MOVED[name])(command)
        return command

    return decorate


_trusting = click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Say once more that code that comes with the model may run: a database alone does not decide that.",
)


@main.command(
    epilog="""
\b
Examples:
  autopeft search --demo
  autopeft search --model bert-base-uncased --data train.csv --memory 8GiB --trainable 1% --trials 60
  autopeft search --model ./my-model --data data/ --methods lora,adapter --time 2h --workers 4
  autopeft search --plan plan.yaml --trials 200 --address auto --folder /shared/autopeft-runs

A plan is a YAML file of the options above, with _ in place of -, and the limits on costs below `budget:`.
Options given beside --plan or --demo come before theirs. Ctrl-C stops a search; `autopeft resume` goes on with it.
"""
)
@click.option("--demo", is_flag=True, help="Search on a packaged small model and data set, without a network.")
@click.option("--plan", "plan_file", metavar="FILE", help="Read the plan from a YAML file.")
@click.option("--name", help="A name for the search.  [default: from the data and the time]")
@_options(Plan, "budget")
@_options(Budget)
@_options(Resources)
def search(demo: bool, plan_file: str | None, name: str | None, **options: Any) -> None:
    """Search for the best methods: train candidates and report their front."""
    wanted = _given(options, Plan)
    if demo:
        limits = {} if wanted.keys() & _DEMO_LIMITS.keys() else _DEMO_LIMITS
        wanted = {**_DEMO, **limits, **_demo_paths(options["folder"] or Resources.folder), **wanted}
    elif not plan_file:
        for needed in ("model", "data"):
            if needed not in wanted:
                raise click.UsageError(f"Give --{needed}, or a plan by --plan, or try --demo.")
    if budget := _given(options, Budget):
        wanted["budget"] = budget
    plan = Plan.from_yaml(plan_file, wanted) if plan_file else Plan.from_dict(wanted)
    resources = _given(options, Resources)

    def run(on_event: "Callable[[Event], None]") -> "Search":
        from autopeft.search.search import search as run_search

        return run_search(plan, name=name, on_event=on_event, **resources)

    _watch(run, resources)


def _demo_paths(folder: str) -> dict[str, str]:
    from autopeft.tasks.demo import demo_data, demo_model

    return {"model": str(demo_model()), "data": str(demo_data(Path(folder) / "demo"))}


@main.command()
@_name
@_moved("model", "data", "space")
@_trusting
@_options(Resources)
def resume(name: str | None, **options: Any) -> None:
    """Go on with an interrupted search: finished trials are kept. NAME is the most recent search when not given."""
    resources = _given(options, Resources)
    searched = name or _most_recent(options["storage"] or Resources.storage)

    def run(on_event: "Callable[[Event], None]") -> "Search":
        from autopeft.search.search import resume as resume_search

        return resume_search(searched, on_event=on_event, **_about_files(options), **resources)

    _watch(run, resources)


@main.command()
@_name
@click.option("--seeds", type=int, default=3, show_default=True, help="How many seeds to train each member with.")
@_moved("model", "data", "space")
@_trusting
@_options(Resources)
def confirm(name: str | None, seeds: int, **options: Any) -> None:
    """Train the front again with further seeds, and look at the test split.

    Says how much of each accuracy was luck, and which members cannot be told apart. NAME is the most recent search when
    not given. What was confirmed before is kept, and what failed is trained again; more seeds, or members that are new
    on the front, are added to it.
    """
    resources = _given(options, Resources)
    opened = _open(name, options["storage"] or Resources.storage)

    def run(on_event: "Callable[[Event], None]") -> "Search":
        return opened.confirm(seeds, on_event=on_event, **_about_files(options), **resources)

    _watch(run, resources, "confirm", {"seeds": seeds})


def _about_files(options: Mapping[str, Any]) -> dict[str, Any]:
    """Where what a plan names lies now, and whether its code may run."""
    return {name: options[name] for name in (*_MOVED, "trust_remote_code")}


def _watch(
    run: "Callable[[Callable[[Event], None]], Search]",
    resources: Mapping[str, Any],
    again: str = "resume",
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Runs a search under the live display, then reports; says after Ctrl-C or SIGTERM by which command to go on."""
    from autopeft.events import Begun, Doing
    from autopeft.reports import render
    from autopeft.reports.failure import failure
    from autopeft.reports.progress import Progress

    begun: list[SearchRecord] = []
    try:
        with _terminable() as terminated, Progress() as progress:

            def hear(event: "Event") -> None:
                if isinstance(event, Begun):
                    begun.append(event.record)
                progress(event)

            hear(Doing("importing libraries"))
            done = run(hear)
    except KeyboardInterrupt:
        advice = "Nothing was trained yet."
        if begun:
            trusting = {"trust_remote_code": True} if begun[0].plan.trust_remote_code else {}
            options = {**more, **resources, **trusting}
            advice = f"Go on with: {_command(again, begun[0].name, options)}{_hint(resources)}"
        _say(f"Interrupted. {advice}", err=True)
        click.get_current_context().exit(_TERMINATED if terminated else _INTERRUPTED)
    click.echo(render(done.record, "terminal"))
    if reason := failure(done.record, again):
        _say(f"Error: {reason}", err=True)
        click.get_current_context().exit(_IN_VAIN)
    where = {"storage": resources["storage"]} if "storage" in resources else {}
    _say(f"\nAs a page:     {_command('report', done.name, where)} --html report.html")
    _say(f"Under limits:  {_command('select', done.name, where)} --memory SIZE --trainable COUNT{_hint(where)}")


@contextmanager
def _terminable() -> Iterator[list[int]]:
    """SIGTERM ends the block as Ctrl-C does, and is told of: Ray makes an interrupt of its own out of ours."""
    came: list[int] = []

    def end(number: int, _: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _command(verb: str, name: str, options: Mapping[str, Any]) -> str:
    """A command as it can be typed, but for what is hidden of a database's URL."""
    words = ["autopeft", verb, name]
    for key, value in options.items():
        words.append(f"--{key.replace('_', '-')}")
        if value is not True:
            words.append(shown(value) if key == "storage" else str(value))
    return shlex.join(words)


def _hint(options: Mapping[str, Any]) -> str:
    """What to do with a command that does not tell the whole URL of its database; empty where it does."""
    storage = options.get("storage", "")
    return "" if shown(storage) == storage else "\nPut back what *** hides in --storage."


def _most_recent(storage: str) -> str:
    from autopeft.storage.repository import Repository

    with Repository(storage) as repository:
        summaries = repository.summaries()
    if not summaries:
        raise AutopeftError(f"there is no search in {shown(storage)}; begin one with `autopeft search`.")
    return max(summaries, key=lambda summary: summary.created).name


def _open(name: str | None, storage: str, folder: str | None = None) -> "Search":
    from autopeft.search.search import open_search

    return open_search(name or _most_recent(storage), storage, folder)


@main.command()
@_name
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page to FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print one line per trial as CSV.")
@_storage
@_folder
def report(name: str | None, html: Path | None, as_json: bool, as_csv: bool, storage: str, folder: str | None) -> None:
    """Report a search, running or finished. NAME is the most recent search when not given."""
    from autopeft.reports import render
    from autopeft.reports.wording import numbers

    opened = _open(name, storage, folder)
    record = opened.record
    if html is None:
        click.echo(render(record, "json" if as_json else "csv" if as_csv else "terminal").rstrip("\n"))
        gone = tuple(trial.number for trial in opened.front if not opened.has_weights(trial.number))
        if gone and not (as_json or as_csv):
            click.echo(f"The weights of {numbers(gone)} are gone; if the run folder was moved, say where by --folder.")
        return
    page = render(record, "html")
    try:
        html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise AutopeftError(f"cannot write '{html}': {error.strerror}.") from error
    _say(f"Report of {record.name}: {html.absolute()}")


@main.command(
    epilog="""
\b
Examples:
  autopeft estimate --model bert-base-uncased --batch-size 32 --length 128
  autopeft estimate --model llama/config.json --memory 24GiB --dtype bfloat16 --gradient-checkpointing
"""
)
@click.option("--model", required=True, help="A folder, a hub name or a config.json; weights are not needed.")
@click.option("--space", default=Plan.space, show_default=True, help="The methods of this space, or of your own cards.")
@click.option("--memory", metavar="SIZE", help="Tell the largest settings that train within this, such as 8GiB.")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Examples in a training step.")
@click.option("--length", type=click.IntRange(1), default=512, show_default=True, help="Tokens of every example.")
@click.option("--gradient-checkpointing", is_flag=True, help="Recompute activations: less memory, more time.")
@click.option(
    "--dtype", default="float32", show_default=True, help="What the weights are held in; also nf4 or int8 (quantised)."
)
@click.option("--trust-remote-code", is_flag=True, help=field_docs(Plan)["trust_remote_code"])
def estimate(model: str, memory: str | None, **options: Any) -> None:
    """Estimate what every method costs on a model, without training anything."""
    from autopeft.costs.estimate import estimate as estimate_all
    from autopeft.reports.estimates import estimate_lines

    processes = min(os.cpu_count() or 1, _ESTIMATING)
    rows, notes = estimate_lines(
        estimate_all(model, memory=memory, processes=processes, **options), limited=memory is not None
    )
    _table(rows[0], rows[1:])
    for note in notes:
        _say(note)


@main.command(
    epilog="""
\b
Examples:
  autopeft select --memory 6GiB --trainable 500k
  autopeft select NAME --accuracy-at-least 0.9 --prefer trainable
"""
)
@_name
@_options(Budget)
@click.option(
    "--prefer",
    default="accuracy",
    show_default=True,
    type=click.Choice(list(OBJECTIVES)),
    help="The objective that decides among trials that keep all limits.",
)
@_storage
@_folder
def select(name: str | None, prefer: str, storage: str, folder: str | None, **limits: Any) -> None:
    """Select the best trial of a search under limits. NAME is the most recent search when not given."""
    from autopeft.reports.costs import lines
    from autopeft.reports.findings import no_gain
    from autopeft.reports.wording import describe_fully, heading

    opened = _open(name, storage, folder)
    given = {key: value for key, value in limits.items() if value is not None}
    chosen = opened.select(prefer=prefer, **given)
    most = "highest" if OBJECTIVES[prefer] else "lowest"
    among = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in given.items())
    kept = f"of the finished trials that keep {among}" if given else "of all finished trials"
    _say(f"Trial {chosen.number} of {opened.name}: the {most} {heading(prefer)} {kept}.\n")
    _say(click.wrap_text(describe_fully(chosen.candidate), 100, "  ", "  ") + "\n")
    for what, value in lines(chosen):
        _say(f"  {what:<18} {value}")
    if said := no_gain(opened.record, chosen):
        _say(f"\n{said}")
    if not opened.has_weights(chosen.number):
        _say("\nIts weights are gone; if the run folder was moved, say where by --folder.")
        return
    looked_in = ["--folder", folder] if folder else []
    words = ["autopeft", "export", opened.name, str(chosen.number), "--to", "winner/", *looked_in]
    _say(f"\nExport it:  {shlex.join(words)}")


@main.command()
@click.argument("name")
@click.argument("trial", type=int)
@click.option("--to", required=True, metavar="FOLDER", help="A new folder, or an empty one.")
@click.option(
    "--merge", is_flag=True, help="Fold the method into the backbone's weights, where its mathematics allow it."
)
@_moved("model")
@_trusting
@_storage
@_folder
def export(name: str, trial: int, to: str, storage: str, folder: str | None, **options: Any) -> None:
    """Write a trial's trained weights to a folder."""
    exported = _open(name, storage, folder).export(trial, to, **options)
    _say(f"Trial {trial} of {name}: {exported.absolute()}\n\nLoad it in Python:\n")
    _say(f'  import autopeft\n\n  model = autopeft.load("{exported}")\n  model.predict(["a text to classify"])')


@main.command("list")
@_storage
def list_searches(storage: str) -> None:
    """List all searches."""
    from autopeft.reports.wording import show
    from autopeft.storage.repository import Repository

    with Repository(storage) as repository:
        summaries = sorted(repository.summaries(), key=lambda summary: summary.created, reverse=True)
    if not summaries:
        _say(f"No searches in {shown(storage)}.")
        return
    rows = [
        (
            each.name,
            f"{each.created.astimezone():%Y-%m-%d}",
            "finished" if each.ended else "unfinished",
            str(each.trials),
            show("accuracy", each.best),
            _short(each.model),
        )
        for each in summaries
    ]
    _table(("name", "begun", "state", "trials", "accuracy", "model"), rows)


@main.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_storage
@_folder
def delete(name: str, yes: bool, storage: str, folder: str | None) -> None:
    """Delete a search: its trials, their weights, and prepared data that no other search uses."""
    from autopeft.reports.wording import plural
    from autopeft.search.deleting import delete as delete_search
    from autopeft.sizes import show_bytes

    if not yes:
        if not sys.stdin.isatty():
            raise AutopeftError(f"nobody can be asked whether to delete search '{name}'; say so by --yes.")
        click.confirm(f"Delete search '{name}' with all its trials and weights?", abort=True)
    done = delete_search(name, storage, folder)
    click.echo(f"Deleted search {name}: {plural(done.trials, 'trial')}; {show_bytes(done.freed)} freed.")
    for gone in done.folders:
        click.echo(f"  {gone}")


@main.command()
@click.argument("name", required=False)
def methods(name: str | None) -> None:
    """List all methods and hybrids, or explain the one called NAME with all that may vary."""
    from autopeft.methods.overview import overviews
    from autopeft.reports.wording import show

    if name is not None:
        _explain(name)
        return
    rows = [
        (
            each.name,
            each.family,
            "-" if each.trainable is None else show("trainable", each.trainable),
            "yes" if each.merges else "no",
            "yes" if each.exports else "no",
            _first_reference(each.paper),
            each.summary,
        )
        for each in overviews()
    ]
    _table(("method", "family", "BERT-base", "merges", "PEFT", "paper", "summary"), rows)
    _say("\nBERT-base: parameters trained on it; PEFT: saved in peft's own format.")
    _say("`autopeft methods NAME` explains one, with all that may vary.")


def _explain(name: str) -> None:
    from autopeft.methods.overview import overview

    of, parts = overview(name)
    _say(f"{of.name} ({of.family}): {of.summary}\n\n{of.paper}\n")
    trains = "cannot be attached to BERT-base" if of.trainable is None else f"trains {of.trainable:,} on BERT-base"
    merges = "merges into the weights" if of.merges else "does not merge into the weights"
    exports = "is saved in peft's own format" if of.exports else "is saved in autopeft's format"
    _say(f"At its defaults it {trains}; it {merges}, and {exports}.\n")
    rows = [
        (each.name if len(parts) == 1 else f"{part}.{each.name}", each.default, each.varies)
        for part, declared in parts.items()
        for each in declared
    ]
    _table(("parameter", "default", "a search tries"), rows)


def _first_reference(paper: str) -> str:
    """The first arXiv number of a reference, else its beginning."""
    found = re.search(r"arXiv:[\d.]+\d", paper)
    return found[0] if found else paper[:40]


@main.command()
def spaces() -> None:
    """List all named search spaces."""
    from autopeft.space.space import load_space, named_spaces

    loaded = [load_space(name) for name in named_spaces()]
    _table(
        ("space", "methods", "hybrids", "summary"),
        [(each.name, str(len(each.methods)), str(len(each.hybrids)), each.summary) for each in loaded],
    )


def _short(place: str) -> str:
    """The last part of a local path; hub names as they are."""
    return Path(place).name if Path(place).is_absolute() else place


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number < len(headings) - 1, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell, keep="")) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    with console.capture() as captured:
        console.print(table)
    click.echo(captured.get().rstrip("\n"))

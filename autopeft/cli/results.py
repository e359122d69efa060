"""Commands on searches that are there: report, select, export, list, delete."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autopeft.cli.options import (
    folder_option,
    given_of,
    moved_options,
    name_argument,
    options_of,
    storage_option,
    trusting_option,
)
from autopeft.cli.printing import say, table
from autopeft.cli.where import next_command, require_here, served
from autopeft.errors import AutopeftError
from autopeft.events import IMPORTING
from autopeft.foreign import printable
from autopeft.objectives import COSTS, SCORE, UNITS, objective_named
from autopeft.plan import Budget
from autopeft.reports import DEFAULT, format_of, formats, render, require_format
from autopeft.searching.commands import hint, places, trusting
from autopeft.storage.urls import shown
from autopeft.tasks.own import is_own

if TYPE_CHECKING:
    from autopeft.cli.remote import Server
    from autopeft.searching.search import Search


_FILE = click.Path(dir_okay=False, path_type=Path)


def _as_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--html FILE` and its like; without FILE the report is printed."""
    for name in reversed([each for each in formats() if each != DEFAULT]):
        command = click.option(
            *(f"--{name}", name),
            is_flag=False,
            flag_value="-",
            type=_FILE,
            metavar="[FILE]",
            help=f"The same as --format {name}, with --to where there is a FILE.",
        )(command)
    return command


@click.command()
@name_argument
@click.option(
    "--format",
    "wanted",
    metavar="NAME",
    help=f"One of {', '.join(formats())}.  [default: what FILE ends in, else terminal]",
)
@click.option("--to", "file", type=_FILE, metavar="FILE", help="Write it to FILE.")
@_as_options
@storage_option
@folder_option
def report(
    name: str | None, wanted: str | None, file: Path | None, storage: str, folder: str | None, **files: Path | None
) -> None:
    """Report a search, running or finished. NAME is the most recent search when not given."""
    from autopeft.reports.wording import numbers

    if asked := {format: to for format, to in files.items() if to is not None}:
        if len(asked) > 1 or wanted or file:
            raise AutopeftError("a report is written in one format at a time; give one of its options.")
        ((wanted, file),) = asked.items()
    file = None if file == Path("-") else file
    format = wanted or format_of(file)
    require_format(format)
    opened = open_named(name, storage, folder)
    if file is not None:
        try:
            file.write_text(click.unstyle(render(opened.record, format)), encoding="utf-8")
        except OSError as error:
            raise AutopeftError(f"cannot write '{file}': {error.strerror}.") from error
        say(f"Report of {opened.name}: {file.absolute()}")
        return
    click.echo(render(opened.record, format).rstrip("\n"))
    gone = tuple(trial.number for trial in opened.front if not opened.has_weights(trial.number))
    if gone and format == DEFAULT:
        say(f"The weights of {numbers(gone)} are {_gone()}")


@click.command(
    epilog="""
\b
Examples:
  autopeft select --memory 6GiB --trainable 500k
  autopeft select NAME --score 0.9 --prefer trainable
"""
)
@name_argument
@options_of(Budget)
@click.option(
    "--prefer",
    default=SCORE,
    show_default=True,
    metavar="OBJECTIVE",
    help=f"The objective that decides among trials that keep all limits: {', '.join((SCORE, *COSTS))}.",
)
@storage_option
@folder_option
def select(name: str | None, prefer: str, storage: str, folder: str | None, **limits: Any) -> None:
    """Select the best trial of a search under limits. NAME is the most recent search when not given."""
    from autopeft.fronts import latencies
    from autopeft.reports.costs import lines
    from autopeft.reports.findings import no_gain
    from autopeft.reports.wording import capital, describe_fully, trained_in_part

    opened = open_named(name, storage, folder)
    given = given_of(limits, Budget)
    chosen = opened.select(prefer=prefer, **given)
    metric = opened.record.metric
    preferred = objective_named(prefer, metric)
    most = "highest" if preferred.higher_is_better else "lowest"
    planned = {name: UNITS[name].show(limit) for name, limit in opened.plan.budget.after_training().items()}
    limited = {**planned, **given}
    if SCORE in limited and not metric.higher_is_better:
        limited[SCORE] = f"at most {limited[SCORE]}"
    among = ", ".join(f"{name} {limit}" for name, limit in limited.items())
    kept = f"of the trials that keep {among}" if among else "of all trials"
    say(f"Trial {chosen.number} of {opened.name}: the {most} {preferred.heading} {kept}.\n")
    say(click.wrap_text(describe_fully(chosen.candidate, opened.record.of_task), 100, "  ", "  ") + "\n")
    told = lines(chosen, metric, latencies(opened.trials))
    width = max(len(what) for what, _ in told)
    for what, value in told:
        say(f"  {what:<{width}}  {value}")
    if said := trained_in_part(chosen):
        say(f"\n{said}")
    if said := no_gain(opened.record, chosen):
        say(f"\n{said}")
    if not opened.has_weights(chosen.number):
        why = opened.why_deleted(chosen.number)
        say(f"\n{capital(why) or f'Its weights are {_gone()}'}")
        return
    trusted = {name: value for name, value in trusting(opened.plan).items() if name != "metric"}
    here = served() is None
    options = {"to": "winner/", **trusted, **(places(storage, folder) if here else {})}
    exporting = next_command("export", opened.name, str(chosen.number), **options)
    say(f"\nExport it:  {exporting}{hint(storage) if here else ''}")


@click.command()
@click.argument("name")
@click.argument("trial", type=int)
@click.option("--to", required=True, metavar="FOLDER", help="A new folder, or an empty one.")
@click.option(
    "--merge",
    is_flag=True,
    help="Fold the method into the backbone's weights, where its mathematics allow it; with the head as a class of "
    "transformers, ready for `pipeline`, where one computes the same.",
)
@click.option("--onnx", is_flag=True, help="Write one ONNX file with method, pooling and head instead.")
@click.option(
    "--as",
    "lora",
    type=click.Choice(["lora"]),
    help="Write a LoRA that stands for a method which changes weights, for servers that know no other.",
)
@moved_options("model", "space", "task")
@trusting_option
@storage_option
@folder_option
def export(name: str, trial: int, to: str, storage: str, folder: str | None, **options: Any) -> None:
    """Write a trial's trained weights to a folder, with a model card."""
    from autopeft.reports.progress import Progress
    from autopeft.reports.wording import trained_in_part

    opened = open_named(name, storage, folder)
    asked = opened.trial(trial)
    options["lora"] = options["lora"] is not None
    with Progress() as progress:
        progress(IMPORTING)
        exported = opened.export(trial, to, **options)
    say(f"Trial {trial} of {name}: {exported.absolute()}\n")
    if said := trained_in_part(asked):
        say(f"{said}\n")
    if options["onnx"]:
        say("How to ask it by onnxruntime stands in its README.md.")
        return
    say("Load it in Python:\n")
    own = f'\n\n  autopeft.register("{opened.plan.task}")' if is_own(opened.plan.task) else ""
    say(f'  import autopeft{own}\n\n  model = autopeft.load("{exported}")\n  model.predict([…])\n')
    say("What else loads it, and what does not, stands in its README.md.")


@click.command("list")
@storage_option
def list_searches(storage: str) -> None:
    """List all searches."""
    if (server := served()) is not None:
        _list_served(server)
        return
    from autopeft.storage.repository import Repository

    with Repository(storage) as repository:
        summaries = sorted(repository.summaries(), key=lambda summary: summary.created, reverse=True)
    if not summaries:
        say(f"No searches in {shown(storage)}.")
        return
    rows = [
        (
            each.name,
            f"{each.created.astimezone():%Y-%m-%d}",
            "finished" if each.ended else "unfinished",
            str(each.trials),
            f"{each.metric.heading} {each.metric.show(each.best)}" if each.best is not None else "-",
            _short(each.model),
        )
        for each in summaries
    ]
    table(("name", "begun", "state", "trials", "best", "model"), rows)


def _list_served(server: "Server") -> None:
    """The same table, with the states that the service's queue knows."""
    if not (known := server.searches()):
        say(f"No searches at {server.url}.")
        return
    rows = [
        (
            each.name,
            f"{each.created.astimezone():%Y-%m-%d}",
            "finished" if each.state == "ended" else each.state,
            str(each.trials),
            each.shown,
            _short(each.model),
        )
        for each in known
    ]
    table(("name", "begun", "state", "trials", "best", "model"), rows)


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@storage_option
@folder_option
def delete(name: str, yes: bool, storage: str, folder: str | None) -> None:
    """Delete a search: its trials, their weights, and prepared data that no other search uses."""
    from autopeft.reports.wording import plural
    from autopeft.searching.deleting import delete as delete_search
    from autopeft.searching.deleting import weights_of
    from autopeft.sizes import show_bytes

    require_here()
    if not yes:
        if not sys.stdin.isatty():
            raise AutopeftError(f"nobody can be asked whether to delete search '{name}'; say so by --yes.")
        for weights in weights_of(name, storage, folder):
            say(f"  {weights}")
        click.confirm(f"Delete search '{printable(name)}' with all its trials and weights?", abort=True)
    done = delete_search(name, storage, folder)
    say(f"Deleted search {name}: {plural(done.trials, 'trial')}; {show_bytes(done.freed)} freed.")
    for gone in done.folders:
        say(f"  {gone}")


def most_recent(storage: str) -> str:
    from autopeft.storage.repository import Repository

    with Repository(storage) as repository:
        summaries = repository.summaries()
    if not summaries:
        raise AutopeftError(f"there is no search in {shown(storage)}; begin one with `autopeft search`.")
    return max(summaries, key=lambda summary: summary.created).name


def open_named(name: str | None, storage: str, folder: str | None = None) -> "Search":
    if (server := served()) is not None:
        return server.opened(name)
    from autopeft.searching.search import open_search

    return open_search(name or most_recent(storage), storage, folder)


def _gone() -> str:
    """What there is to do about weights that are not there, by whoever knows where run folders lie."""
    return "gone; if the run folder was moved, say where by --folder." if served() is None else "gone."


def _short(place: str) -> str:
    """The last part of a local path; hub names as they are."""
    return Path(place).name if Path(place).is_absolute() else place

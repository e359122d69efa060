"""Commands that need no search: estimate, methods, spaces, tasks."""

import re
from typing import Any

import click
from click.core import ParameterSource

from autopeft import machine
from autopeft.cli.printing import say, table
from autopeft.events import IMPORTING
from autopeft.plan import AUTO, DTYPES, QUANTISED, Plan, field_docs

_ESTIMATING = 4
"""Processes that share an estimate, at most: each begins with importing libraries, and reading the model's shape."""
_ASSUMED = ("task", "batch_size", "length", "dtype", "memory")
"""Options whose defaults are repeated where they were not given."""


@click.command(
    epilog="""
\b
Examples:
  autopeft estimate --model bert-base-uncased --batch-size 32 --length 128
  autopeft estimate --model bert-base-uncased --length 64 --time --rows 5000
  autopeft estimate --model llama/config.json --memory 24GiB --dtype bfloat16 --gradient-checkpointing
  autopeft estimate --model llama/config.json --task text-classification --json costs.json
"""
)
@click.option("--model", required=True, help="A folder, a hub name or a config.json; weights are not needed.")
@click.option("--space", default="default", show_default=True, help="The methods of this space, or of your own cards.")
@click.option(
    "--task", help="What is learned.  [default: text-generation for a causal model, else text-classification]"
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="Tell the largest settings that train within this, such as 8GiB.  [default: what a GPU here has free]",
)
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Examples in a training step.")
@click.option("--length", type=click.IntRange(1), default=512, show_default=True, help="Tokens of every example.")
@click.option("--gradient-checkpointing", is_flag=True, help="Recompute activations: less memory, more time.")
@click.option(
    "--dtype",
    metavar="|".join((*DTYPES, *QUANTISED)),
    default=AUTO,
    show_default=True,
    help=field_docs(Plan)["dtype"],
)
@click.option("--time", is_flag=True, help="Tell how long a whole training on --rows takes on this device.")
@click.option("--rows", type=click.IntRange(1), default=1000, show_default=True, help="Rows to train on, for --time.")
@click.option("--trust-remote-code", is_flag=True, help=field_docs(Plan)["trust_remote_code"])
@click.option(
    "--json",
    "file",
    is_flag=False,
    flag_value="-",
    type=click.File("w", encoding="utf-8", lazy=True),
    metavar="[FILE]",
    help="Write everything as JSON to a file, or print it.",
)
def estimate(model: str, memory: str | None, time: bool, rows: int, file: Any, **options: Any) -> None:
    """Estimate what every method costs on a model, without training anything."""
    from autopeft.costs.slips import require_plausible
    from autopeft.reports.progress import Progress

    require_plausible(model, options["space"], memory)
    processes = min(machine.cores(), _ESTIMATING)
    with Progress() as progress:
        progress(IMPORTING)
        from autopeft.costs.estimate import about
        from autopeft.costs.estimate import estimate as estimate_all

        asked: dict[str, Any] = {"memory": memory, "rows": rows if time else None, **options}
        estimates = estimate_all(model, processes=processes, on_event=progress, **asked)
        what = about(model, **asked)
    from autopeft.reports.estimates import estimate_lines, estimates_json, heading

    source = click.get_current_context().get_parameter_source
    names = [name for name in _ASSUMED if source(name) is ParameterSource.DEFAULT and getattr(what, name) is not None]
    if file is not None:
        file.write(estimates_json(what, names, estimates))
        return
    for line in heading(what, names):
        say(line)
    lines, notes = estimate_lines(estimates, limited=what.memory is not None, rows_to_train_on=what.rows)
    table(lines[0], lines[1:])
    for note in notes:
        say(note)


@click.command()
@click.argument("name", required=False)
def methods(name: str | None) -> None:
    """List all methods and hybrids, or explain the one called NAME with all that may vary."""
    from autopeft.objectives import show
    from autopeft.reports.methods import overviews

    if name is not None:
        _explain(name)
        return
    known = overviews(_importing)
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
        for each in known
    ]
    table(("method", "family", "BERT-base", "merges", "PEFT", "paper", "summary"), rows)
    say("\nBERT-base: parameters trained on it; PEFT: saved in peft's own format.")
    say("`autopeft methods NAME` explains one, with all that may vary.")


def _explain(name: str) -> None:
    from autopeft.reports.methods import overview

    of, parts = overview(name, _importing)
    say(f"{of.name} ({of.family}): {of.summary}\n\n{of.paper}\n")
    trains = "cannot be attached to BERT-base" if of.trainable is None else f"trains {of.trainable:,} on BERT-base"
    merges = "merges into the weights" if of.merges else "does not merge into the weights"
    exports = "is saved in peft's own format" if of.exports else "is saved in autopeft's format"
    say(f"At its defaults it {trains}; it {merges}, and {exports}.\n")
    rows = [
        (each.name if len(parts) == 1 else f"{part}.{each.name}", each.default, each.varies)
        for part, declared in parts.items()
        for each in declared
    ]
    table(("parameter", "default", "a search tries"), rows)
    if of.may_freeze:
        say("\nLayers below all that it trains run without dropout, so that their states can be kept and read again.")


def _first_reference(paper: str) -> str:
    """The first arXiv number of a reference, else its beginning."""
    found = re.search(r"arXiv:[\d.]+\d", paper)
    return found[0] if found else paper[:40]


@click.command()
def tasks() -> None:
    """List all tasks, with the columns that they read and their metrics."""
    from autopeft.reports.catalogue import task_overviews

    for each in task_overviews(_importing):
        say(f"{each.name}: {each.summary}")
        roles = "; ".join(f"{role} ({', '.join(usual)} …)" for role, usual in each.reads.items())
        say(f"  reads    {roles}\n  metrics  {', '.join(each.metrics)}\n")
    say("In brackets stand usual names of columns; those of others are given by --columns ROLE=NAME.")
    say("The first metric is the default, as a rule; --metric gives another.")
    say("A task or a metric of your own is given by its file: --task my_task.py:MyTask, --metric my_metric.py:score.")


@click.command()
def spaces() -> None:
    """List all named search spaces."""
    from autopeft.reports.catalogue import space_overviews

    table(
        ("space", "methods", "hybrids", "summary"),
        [(each.name, str(len(each.methods)), str(len(each.hybrids)), each.summary) for each in space_overviews()],
    )


def _importing() -> None:
    """Said once in a while: what has to be imported for it is kept."""
    say(f"{IMPORTING.what} …", err=True)

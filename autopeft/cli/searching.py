"""Commands that train: search, resume, confirm."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from autopeft.cli.demos import DEMOS, NEWS
from autopeft.cli.group import IN_VAIN, INTERRUPTED, TERMINATED
from autopeft.cli.options import (
    MOVED,
    given_of,
    moved_options,
    name_argument,
    options_of,
    trusting_option,
)
from autopeft.cli.printing import say
from autopeft.cli.results import most_recent, open_named
from autopeft.cli.where import leaving, next_command, require_here, served
from autopeft.plan import Budget, Plan, Resources
from autopeft.searching.commands import command, hint, trusting

if TYPE_CHECKING:
    from autopeft.cli.remote import Server
    from autopeft.events import Event
    from autopeft.searching.search import Search
    from autopeft.trial import SearchRecord


@click.command(
    epilog="""
\b
Examples:
  autopeft search --demo
  autopeft search --demo chat
  autopeft search --model bert-base-uncased --data train.csv --memory 8GiB --trainable 1% --trials 60
  autopeft search --model ./my-model --data data/ --methods lora,adapter --time 2h --workers 4
  autopeft search --plan plan.yaml --trials 200 --address auto --folder /shared/autopeft-runs

A plan is a YAML file of the options above, with _ in place of -, and the limits on costs below `budget:`.
Options given beside --plan or --demo come before theirs. Ctrl-C stops a search; `autopeft resume` goes on with it.
"""
)
@click.option(
    "--demo",
    type=click.Choice([*DEMOS]),
    is_flag=False,
    flag_value=NEWS,
    help="Search on a packaged small model and data set, without a network: sections of news by their headlines "
    "(news, also without a name), or headlines written by a language model (chat).",
)
@click.option("--plan", "plan_file", metavar="FILE", help="Read the plan from a YAML file.")
@click.option("--name", help="A name for the search.  [default: from the data and the time]")
@options_of(Plan, "budget")
@options_of(Budget)
@options_of(Resources)
def search(demo: str | None, plan_file: str | None, name: str | None, **options: Any) -> None:
    """Search for the best methods: train candidates and report their front."""
    wanted, server = given_of(options, Plan), served()
    if demo and server is not None:
        raise click.UsageError(f"--demo searches on this machine; {leaving()}, or name a model and data.")
    if demo:
        wanted = DEMOS[demo].plan(wanted, Path(options["folder"] or Resources.folder) / "demo")
    elif not plan_file:
        for needed in ("model", "data"):
            if needed not in wanted:
                raise click.UsageError(f"Give --{needed}, or a plan by --plan, or try --demo.")
    if budget := given_of(options, Budget):
        wanted["budget"] = budget
    plan = Plan.from_yaml(plan_file, wanted) if plan_file else Plan.from_dict(wanted)
    if server is not None:
        _watch_served(server, plan, name)
        return
    resources = given_of(options, Resources)

    def run(on_event: "Callable[[Event], None]") -> "Search":
        from autopeft.searching.search import search as run_search

        return run_search(plan, name=name, on_event=on_event, **resources)

    _watch(run, resources)


@click.command()
@name_argument
@click.option(
    "--trials", type=int, help="Go on until there are so many trials in all, also where the search had ended."
)
@click.option("--time", metavar="DURATION", help="Go on until the search took so long in all, such as 2h; likewise.")
@click.option(
    "--once-more", type=int, metavar="TRIAL", help="Only train this trial again, whose weights were not kept."
)
@moved_options(*MOVED)
@trusting_option
@options_of(Resources)
def resume(name: str | None, trials: int | None, time: str | None, once_more: int | None, **options: Any) -> None:
    """Go on with an interrupted search, or give a finished one more trials or time.

    Finished trials are kept. NAME is the most recent search when not given.
    """
    require_here()
    resources = given_of(options, Resources)
    searched = name or most_recent(options["storage"] or Resources.storage)

    def run(on_event: "Callable[[Event], None]") -> "Search":
        from autopeft.searching.search import resume as resume_search

        return resume_search(
            searched,
            trials=trials,
            time=time,
            once_more=once_more,
            on_event=on_event,
            **_about_files(options),
            **resources,
        )

    _watch(run, resources, more={} if once_more is None else {"once_more": once_more})


@click.command()
@name_argument
@click.option("--seeds", type=int, default=3, show_default=True, help="How many seeds to train each member with.")
@moved_options(*MOVED)
@trusting_option
@options_of(Resources)
def confirm(name: str | None, seeds: int, **options: Any) -> None:
    """Train the front again with further seeds, and look at the test split.

    Says how much of each score was luck, and which members cannot be told apart. NAME is the most recent search when
    not given. What was confirmed before is kept, and what failed is trained again; more seeds, or members that are new
    on the front, are added to it.
    """
    require_here()
    resources = given_of(options, Resources)
    opened = open_named(name, options["storage"] or Resources.storage)

    def run(on_event: "Callable[[Event], None]") -> "Search":
        return opened.confirm(seeds, on_event=on_event, **_about_files(options), **resources)

    _watch(run, resources, "confirm", {"seeds": seeds})


def _about_files(options: Mapping[str, Any]) -> dict[str, Any]:
    """Where what a plan names lies now, and whether its code may run."""
    return {name: options[name] for name in (*MOVED, "trust_remote_code")}


def _watch(
    run: "Callable[[Callable[[Event], None]], Search]",
    resources: Mapping[str, Any],
    again: str = "resume",
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Runs a search under the live display, then reports; says after Ctrl-C or SIGTERM by which command to go on."""
    from autopeft.events import Begun
    from autopeft.reports.failure import failure
    from autopeft.reports.progress import Progress

    begun: list[SearchRecord] = []
    try:
        with _terminable() as terminated, Progress() as progress:

            def hear(event: "Event") -> None:
                if isinstance(event, Begun):
                    begun.append(event.record)
                progress(event)

            done = run(hear)
    except KeyboardInterrupt:
        advice = "Nothing was trained yet."
        if begun:
            options = {**more, **resources, **trusting(begun[0].plan)}
            advice = f"Go on with: {command(again, begun[0].name, **options)}{hint(resources.get('storage', ''))}"
        say(f"Interrupted. {advice}", err=True)
        click.get_current_context().exit(TERMINATED if terminated else INTERRUPTED)
    _report(done, resources, failure(done.record, again))


def _watch_served(server: "Server", plan: Plan, name: str | None) -> None:
    """The same of a search that a service runs, which goes on whoever watches it."""
    from autopeft.cli.remote import search as search_there
    from autopeft.reports.failure import failure
    from autopeft.reports.progress import Progress

    begun: list[str] = []
    try:
        with _terminable() as terminated, Progress() as progress:
            done = search_there(server, plan, name, progress, begun.append)
    except KeyboardInterrupt:
        goes_on = f"{begun[0]} goes on: {server.page(begun[0])}" if begun else "Nothing was begun."
        say(f"Interrupted. {goes_on}", err=True)
        click.get_current_context().exit(TERMINATED if terminated else INTERRUPTED)
    _report(done, {}, failure(done.record, "resume"))


def _report(done: "Search", resources: Mapping[str, Any], failed: str) -> None:
    from autopeft.reports import render

    click.echo(render(done.record, "terminal"))
    if failed:
        say(f"Error: {failed}", err=True)
        click.get_current_context().exit(IN_VAIN)
    where = {"storage": resources["storage"]} if "storage" in resources else {}
    told = hint(resources.get("storage", ""))
    say(f"\nAs a page:     {next_command('report', done.name, **where)} --to report.html")
    say(f"Under limits:  {next_command('select', done.name, **where)} --memory SIZE --trainable COUNT{told}")


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

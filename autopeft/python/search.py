"""Searches as people hold them who write Python: begun, gone on with, opened, and shown.

Every setting stands here with its type and its default, so that editors complete them and type checkers find slips; a
test compares them with the fields of `Plan` and `Resources`, whose docstrings explain them. Nothing heavy is imported
before it is needed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autopeft.events import Event
from autopeft.objectives import SCORE
from autopeft.plan import AUTO, COMPLETION, Budget, Plan, Resources
from autopeft.python.asked import plan_of, resources_of
from autopeft.python.progress import listening
from autopeft.searching import search as searching
from autopeft.storage.repository import Repository, Summary

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from plotly.graph_objects import Figure

    from autopeft.tasks.base import Task


class Search(searching.Search):
    """A search, running or finished: what the database remembers of it, and the answers to be had from it.

    `front` and `trials` are what it found, `select` the best trial under limits, `export` writes one to a folder. A
    notebook shows its report.
    """

    def _repr_html_(self) -> str:
        from autopeft.reports.shown import search_html

        return search_html(self.record)

    def to_pandas(self) -> "pd.DataFrame":
        """One row per trial, by its number: score, costs in bytes and parameters, seconds, and every hyperparameter;
        the columns are those of `autopeft report --format csv`.
        """
        from io import StringIO

        import pandas as pd

        from autopeft.reports import render

        return pd.read_csv(StringIO(render(self.record, "csv")), index_col="trial")

    def plot(self, what: str = "memory") -> "Figure":
        """One of the report's plots as a figure of Plotly's: `memory` or `trainable` (scores against that cost), or
        `curves` (of the front). Raises AutopeftError for another, and where no trial has a score yet.
        """
        from autopeft.reports.figures import figure

        return figure(self.record, what)

    def confirm(
        self,
        seeds: int = 3,
        *,
        on_event: Callable[[Event], None] | None = None,
        model: str | None = None,
        data: str | None = None,
        space: str | None = None,
        task: Any = None,
        metric: Any = None,
        trust_remote_code: bool = False,
        workers: int | None = None,
        gpus_per_trial: float | None = None,
        address: str | None = None,
        timeout: str | float | None = None,
        storage: str | None = None,
        folder: str | Path | None = None,
        quiet: bool = False,
    ) -> "Search":
        """Trains every member of the front again with further seeds, at full length, and lets each answer the test
        split once; then `confirmed` says who is ahead of whom. Goes on where an earlier call ended.

        From `workers` on, settings are those of `Resources`; `model`, `data` and `space` are for what lies elsewhere
        now; `task` and `metric` say once more which code of your own may run, and `trust_remote_code` says of the
        model's what the plan says. `on_event` and `quiet` are as in `autopeft.search`. Raises AutopeftError.
        """
        again: dict[str, Any] = {"model": model, "data": data, "space": space, "task": task, "metric": metric}
        with listening(on_event, quiet) as hears:
            super().confirm(
                seeds,
                on_event=hears,
                **again,
                trust_remote_code=trust_remote_code,
                workers=workers,
                gpus_per_trial=gpus_per_trial,
                address=address,
                timeout=timeout,
                storage=storage,
                folder=folder,
            )
        return self


def search(
    model: str | Path | Plan,
    data: str | Path | None = None,
    *,
    text: str | Sequence[str] = (),
    label: str | None = None,
    columns: str | Mapping[str, str | Sequence[str]] | None = None,
    separator: str | None = None,
    task: "str | type[Task]" = AUTO,
    metric: str | Callable[..., Any] = AUTO,
    space: str | Path = AUTO,
    methods: str | Sequence[str] = (),
    objectives: str | Sequence[str] = (SCORE, "memory", "trainable"),
    budget: Budget | Mapping[str, Any] | None = None,
    trials: int | None = None,
    time: str | float | None = None,
    max_length: int | None = None,
    packing: bool = False,
    loss_on: str = COMPLETION,
    sampler: str = "known_costs",
    seed: int = 0,
    confirm: int = 0,
    warm_start: bool = False,
    keep: str = "front",
    dtype: "str | torch.dtype" = AUTO,
    trust_remote_code: bool = False,
    workers: int | None = None,
    gpus_per_trial: float | None = None,
    address: str | None = None,
    timeout: str | float | None = None,
    storage: str = Resources.storage,
    folder: str | Path = Resources.folder,
    name: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    quiet: bool = False,
) -> Search:
    """Searches for the best fine-tuning methods, and returns when a limit of trials or of time is reached.

    >>> search("bert-base-uncased", "train.csv", budget=Budget(memory="8GiB", trainable="1%"), trials=60)

    `model` is a local folder or a hub name, `data` a file, a folder or a hub name; instead of both a whole `Plan` may
    be given. What is left out is guessed or as usual: `help(autopeft.Plan)` explains every setting up to
    `trust_remote_code`, `help(autopeft.Resources)` those from `workers` to `folder`. `time` and `timeout` are seconds,
    or texts such as "2h"; `task` may also be a class of your own, and `metric` a function of expected and predicted
    values. The search is remembered under its `name`, which is made of the data and the time where none is given.

    How it goes is shown in a terminal or a notebook, unless it is to be `quiet`; `on_event` hears of it instead.
    Ctrl-C raises KeyboardInterrupt and leaves a search that `autopeft.resume` goes on with. Raises AutopeftError for
    what is wrong with the plan, and where the search cannot be made.
    """
    arguments = dict(locals())
    plan, resources = plan_of(arguments), resources_of(arguments)
    with listening(on_event, quiet) as hears:
        done = searching.search(plan, name=name, on_event=hears, **resources)
    return Search(done.name, storage)


def resume(
    name: str,
    *,
    trials: int | None = None,
    time: str | float | None = None,
    once_more: int | None = None,
    model: str | None = None,
    data: str | None = None,
    space: str | None = None,
    task: Any = None,
    metric: Any = None,
    trust_remote_code: bool = False,
    workers: int | None = None,
    gpus_per_trial: float | None = None,
    address: str | None = None,
    timeout: str | float | None = None,
    storage: str = Resources.storage,
    folder: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
    quiet: bool = False,
) -> Search:
    """Goes on with an interrupted search: finished trials are kept, unfinished ones go on from their last rungs.

    >>> resume("reviews", trials=90)

    With `trials` or `time` (seconds, or a text such as "2h"), which count from the search's beginning, also with one
    that had reached its limits: the plan has these from now on. With `once_more`, the number of a trial whose weights
    are gone, that one alone is trained again, to its end, and its weights are kept.

    From `workers` on, settings are those of `Resources`, which are not remembered; `folder` is where the run folder
    lies now, and `model`, `data` and `space` are for what lies elsewhere now. `task` and `metric` say once more which
    code of your own may run, and `trust_remote_code` says of the model's what the plan says. `on_event` and `quiet`
    are as in `autopeft.search`. Raises AutopeftError.
    """
    arguments = dict(locals())
    moved = {each: arguments[each] for each in ("model", "data", "space", "task", "metric")}
    resources = resources_of(arguments)
    with listening(on_event, quiet) as hears:
        searching.resume(
            name,
            trials=trials,
            time=time,
            once_more=once_more,
            on_event=hears,
            **moved,
            trust_remote_code=trust_remote_code,
            **resources,
        )
    return Search(name, storage)


def open_search(name: str, storage: str = Resources.storage, folder: str | Path | None = None) -> Search:
    """A search by name, running or finished.

    >>> open("reviews").front

    `storage` is the URL of the database that remembers it, `folder` the run folder where it does not lie where it was.
    Raises AutopeftError where there is no such search.
    """
    return Search(name, storage, folder)


def list_searches(storage: str = Resources.storage) -> tuple[Summary, ...]:
    """All searches that a database remembers, the latest first; `storage` is its URL. Raises AutopeftError."""
    with Repository(storage) as repository:
        return tuple(sorted(repository.summaries(), key=lambda summary: summary.created, reverse=True))

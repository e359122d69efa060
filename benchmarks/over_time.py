"""Two sides that search for as long: how the other one is run, and what both have found after how much time."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import plotly.graph_objects as go
import ray
from ray import tune
from rich.console import Console
from rich.table import Table

Curves = Mapping[str, Sequence[np.ndarray]]
"""For each of two sides, and each seed, hypervolume at evenly spaced moments; ours comes first."""
MOMENTS = 201
"""Of a curve, from its begin to its end."""
_SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)


def tuned(
    fine_tune: Callable[[dict[str, Any]], None],
    space: Mapping[str, Any],
    objectives: Mapping[str, str],
    seconds: float,
    workers: int,
    to: Path,
) -> list[dict[str, Any]]:
    """What a function trainable reports to Ray Tune, as users run it with Optuna's TPE, within so many seconds: each
    report has `at`, a time, and gets `seconds`, those since the start. `objectives` are to be "max" or "min".
    """
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    began = time.time()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, num_cpus=workers)
    had: list[dict[str, Any]] = []

    class Noting(tune.Callback):
        def on_trial_result(self, *_: Any, result: dict[str, Any], **__: Any) -> None:  # type: ignore[override]
            if "at" in result:
                had.append({**result, "seconds": result["at"] - began})

    optuna = OptunaSearch(metric=[*objectives], mode=[*objectives.values()], seed=space["seed"])
    results = tune.Tuner(
        tune.with_resources(fine_tune, {"cpu": 1}),
        param_space=dict(space),
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(optuna, max_concurrent=workers), num_samples=-1, time_budget_s=seconds
        ),
        run_config=tune.RunConfig(storage_path=str(to), verbose=0, callbacks=[Noting()]),
    ).fit()
    ray.shutdown()
    assert not results.errors, results.errors
    return [each for each in had if each["seconds"] <= seconds]


def compare(curves: Curves, minutes: float, console: Console, plot: Path | None) -> None:
    """Prints both at shares of the time, and after which share ours has what the other has at its end."""
    ours, theirs = curves.values()
    table = Table(title=f"Hypervolume after a share of {minutes:g} min, median of {len(ours)} seeds (least … most)")
    for heading in ("", *(f"{share:.0%}" for share in _SHARES)):
        table.add_column(heading, justify="right" if heading else "left")
    for name, each in curves.items():
        at = [[curve[round(share * (MOMENTS - 1))] for curve in each] for share in _SHARES]
        table.add_row(name, *(f"{median(values):.3f} ({min(values):.3f} … {max(values):.3f})" for values in at))
    console.print(table)
    shares = []
    for one, other in zip(ours, theirs, strict=True):
        enough = np.flatnonzero(one >= other[-1])
        shares.append(float(enough[0] / (MOMENTS - 1)) if len(enough) else math.inf)
    shown = ", ".join(f"{share:.2f}" for share in shares)
    console.print(f"autopeft has what the other has at its end after this share of the time: {shown}")
    if plot:
        figure = go.Figure()
        for name, each in curves.items():
            figure.add_scatter(x=np.linspace(0, minutes, MOMENTS), y=np.median(each, axis=0), name=name, mode="lines")
        figure.update_layout(xaxis_title="minutes", yaxis_title="hypervolume, median")
        plot.write_text(figure.to_html(include_plotlyjs=True), encoding="utf-8")

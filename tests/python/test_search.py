"""Searches as people hold them in Python: what they show, and who hears how they go."""

import json
import re
import sys
from contextlib import nullcontext
from dataclasses import replace
from html import unescape
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import BertConfig

import autopeft
from autopeft.errors import AutopeftError
from autopeft.events import Doing, Event
from autopeft.plan import Budget, Plan
from autopeft.python.asked import plan_of
from autopeft.python.progress import listening
from autopeft.reports.progress import Progress
from autopeft.storage.repository import Repository
from tests.reports.records import record, trial


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> autopeft.Search:
    storage = f"sqlite:///{tmp_path_factory.mktemp('python')}/searches.db"
    with Repository(storage) as repository:
        repository.create(record())
    return autopeft.open("sst2-20261124-1530", storage)


def test_each_thing_says_what_it_is_in_one_line(search: autopeft.Search) -> None:
    assert repr(search) == "<Search 'sst2-20261124-1530': 8 trials, 4 on the front>"
    assert repr(search.trials[0]).startswith("<Trial 1: lora, finished, score 0.861, ")
    assert repr(search.trials[0].predicted) == ("<Costs: memory 402 MiB, trainable 73.7k, stored 288 KiB, flops 1.00G>")
    assert re.fullmatch(
        r"<Confirmed: 3 of the front by at most 3 seeds on 400 test rows, trial 4 ahead>", repr(search.confirmed)
    )
    estimate = autopeft.Estimate("lora", search.trials[0].predicted)
    assert repr(estimate) == "<Estimate lora: memory 402 MiB, trainable 73.7k>"


def test_a_notebook_shows_the_report_with_tables_and_plots(search: autopeft.Search) -> None:
    shown = search._repr_html_()
    (page,) = re.findall(r'^<iframe srcdoc="([^"]*)"', shown)
    assert "<h2>Front</h2>" in unescape(page)
    assert 'id="plot-memory"' in unescape(page)
    assert len(shown) < 3_000_000, "what a notebook's server lets through in one go"


def test_a_notebook_shows_trials_costs_estimates_and_confirmations_as_tables(search: autopeft.Search) -> None:
    first = search.trials[0]
    of_trial = first._repr_html_()
    assert "<caption>Trial 1: lora</caption>" in of_trial
    assert "<th>Peak memory</th><td>402 MiB (measured 404 MiB)</td>" in of_trial
    assert "<th>Why</th><td>out of memory: tried to allocate 2 GiB</td>" in search.trials[2]._repr_html_()
    assert "<th>Trainable</th><td>73.7k</td>" in first.predicted._repr_html_()
    fitting = autopeft.Estimate("lora", first.predicted, largest={"batch_size": 8, "rank": 0})._repr_html_()
    assert "<th>Largest batch size that fits</th><td>8</td>" in fitting
    assert "<th>Largest rank that fits</th><td>none</td>" in fitting
    assert "<td>no &lt;q&gt;</td>" in autopeft.Estimate("lora", None, refused="no <q>")._repr_html_()
    assert search.confirmed is not None
    assert "<th>Validation</th>" in search.confirmed._repr_html_()


def test_trials_are_a_data_frame(search: autopeft.Search) -> None:
    frame = search.to_pandas()
    assert list(frame.index) == [each.number for each in search.trials]
    assert frame.loc[1, "score"] == pytest.approx(0.861)
    assert frame.loc[1, "memory"] == search.trials[0].predicted.memory
    assert frame.loc[1, "lora.rank"] == 8
    assert list(frame.index[frame["front"] == 1]) == [each.number for each in search.front]


@pytest.mark.parametrize("what", ["memory", "trainable", "curves"])
def test_plots_are_figures_of_plotly(search: autopeft.Search, what: str) -> None:
    figure = search.plot(what)
    assert figure.layout.title.text
    assert json.loads(figure.to_json())["data"]


def test_an_unknown_plot_is_answered(search: autopeft.Search) -> None:
    with pytest.raises(AutopeftError, match="Did you mean 'curves'"):
        search.plot("curve")


def test_nothing_to_plot_is_answered(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/searches.db"
    with Repository(storage) as repository:
        repository.create(replace(record(), trials=(trial(1, accuracies=()),), confirmations=()))
    with pytest.raises(AutopeftError, match="nothing to plot yet"):
        autopeft.open(record().name, storage).plot()


def test_all_searches_are_listed_the_latest_first(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/searches.db"
    with Repository(storage) as repository:
        repository.create(record())
        repository.create(replace(record(), name="later", created=record().created.replace(year=2027)))
    assert [each.name for each in autopeft.list_searches(storage)] == ["later", record().name]


def test_spaces_are_listed() -> None:
    assert {"default", "quick", "language"} <= {each.name for each in autopeft.list_spaces()}


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def hear(_: Event) -> None: ...


def test_a_terminal_shows_how_a_search_goes_unless_it_is_to_be_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(listening(None, quiet=False), Progress)
    assert isinstance(listening(None, quiet=True), nullcontext)
    with listening(hear, quiet=False) as hears:
        assert hears is hear


def test_an_estimate_tells_how_far_it_is_unless_it_is_to_be_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("autopeft.python.progress.in_notebook", lambda: True)
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    assert {each.name for each in autopeft.estimate(config, space="quick", length=8)} >= {"lora", "bitfit"}
    assert "estimating what" in capsys.readouterr().out
    autopeft.estimate(config, space="quick", length=8, quiet=True)
    assert capsys.readouterr().out == ""


def test_nobody_is_told_where_nobody_can_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", StringIO())
    with listening(None, quiet=False) as hears:
        assert hears is None


def test_a_notebook_is_told_line_by_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", shell)  # type: ignore[arg-type]
    with listening(None, quiet=False) as hears:
        assert hears is not None
        hears(Doing("loading the backbone"))
    assert capsys.readouterr().out == "00:00 loading the backbone\n"


def arguments(**given: Any) -> dict[str, Any]:
    """Those of a call of `search`, defaults included."""
    from inspect import signature

    bound = signature(autopeft.search).bind(**given)
    bound.apply_defaults()
    return dict(bound.arguments)


def test_a_call_that_says_nothing_more_asks_for_the_usual_plan() -> None:
    assert plan_of(arguments(model="mini", data="sst2.csv")) == Plan("mini", "sst2.csv")


def test_settings_of_a_call_become_those_of_the_plan() -> None:
    asked = arguments(model=Path("mini"), data="sst2.csv", methods="lora,ia3", time="2h", budget={"memory": "8GiB"})
    assert plan_of(asked) == Plan(
        "mini", "sst2.csv", methods=("lora", "ia3"), time=7200.0, budget=Budget(memory="8GiB")
    )


def test_a_whole_plan_is_taken_as_it_is_and_contradicted_by_nothing() -> None:
    plan = Plan("mini", "sst2.csv", trials=5)
    assert plan_of(arguments(model=plan)) is plan
    with pytest.raises(AutopeftError, match=r"dataclasses.replace\(plan, trials=…\)"):
        plan_of(arguments(model=plan, trials=9))


def test_a_plan_without_data_is_answered() -> None:
    with pytest.raises(AutopeftError, match="a plan needs 'data'"):
        plan_of(arguments(model="mini"))

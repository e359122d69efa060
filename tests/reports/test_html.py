"""The page stands alone, is well formed, and shows users' words as words."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import plotly.graph_objects as go
import pytest

from autopeft.reports import render
from autopeft.reports.findings import find
from autopeft.reports.plots import plots
from autopeft.space.candidate import Candidate, Part
from autopeft.trial import SearchRecord, Status
from tests.reports.records import bare, record, trial

VOID = {"meta", "link", "br", "img", "input", "hr"}
EVIL = "</script><script>alert(1)</script><b>"


class Page(HTMLParser):
    """The elements of a page, and whether each is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        where = self.open[-1] if self.open else ""
        self.data[where] = self.data.get(where, "") + data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.mark.parametrize("each", [record(), bare(), bare(trial(1))], ids=["full", "empty", "one trial"])
def test_every_element_is_closed(each: SearchRecord) -> None:
    assert Page(render(each, "html")).open == []


def test_nothing_is_loaded_from_anywhere() -> None:
    page = Page(render(record(), "html"))
    assert not [(tag, attrs) for tag, attrs in page.tags if {"src", "href", "srcset", "action"} & set(attrs)]
    assert "url(" not in page.data["style"]
    assert "@import" not in page.data["style"]


def test_a_page_without_trials_carries_no_plotting_library() -> None:
    assert len(render(bare(), "html")) < 50_000


def test_what_users_wrote_is_shown_and_not_run() -> None:
    candidate = Candidate(EVIL, (Part(EVIL, {EVIL: EVIL}),))
    evil = replace(
        record(),
        name=EVIL,
        plan=replace(record().plan, model=EVIL, data=EVIL, methods=(EVIL,)),
        trials=(trial(1, candidate), trial(2, candidate, (), status=Status.FAILED, reason=EVIL)),
        facts={"data": [EVIL], "labels": [EVIL], "backbone": EVIL, "versions": {EVIL: EVIL}, "refused": {EVIL: EVIL}},
        turned_away={EVIL: 1},
    )
    text = render(evil, "html")
    page, harmless = Page(text), Page(render(record(), "html"))
    assert "<script>alert" not in text
    assert page.count("script") == harmless.count("script")
    assert page.count("b") == 0
    assert EVIL in page.data["h1"]
    figures = json.dumps([plot.figure for plot in plots(evil, find(evil))])
    assert "&lt;script&gt;" in figures
    assert "<script>" not in figures


def test_headings_go_down_one_level_at_a_time_and_tables_name_their_columns() -> None:
    page = Page(render(record(), "html"))
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    assert all(attrs.get("aria-label") for _, attrs in page.tags if attrs.get("role") in {"img", "region"})


def test_every_trial_has_a_row_with_its_status_and_reason() -> None:
    text = render(record(), "html")
    table = text[text.index('<table id="trials"') :]
    table = table[: table.index("</table>")]
    assert table.count("<tr") == 1 + len(record().trials)
    assert table.count("out of memory: tried to allocate 2 GiB") == 2
    assert table.count(">front<") == 4


@pytest.mark.parametrize(
    "each",
    [record(), bare(trial(1)), bare(trial(1, trainable=0, memory=0)), bare(trial(1, accuracies=(float("nan"),)))],
    ids=["full", "one trial", "costs nothing", "not a number"],
)
def test_plotly_knows_every_property_of_the_figures(each: SearchRecord) -> None:
    for plot in plots(each, find(each)):
        go.Figure(plot.figure)


def test_plots_show_all_trials_and_mark_the_front() -> None:
    found = find(record())
    by_name = {plot.name: plot for plot in plots(record(), found)}
    assert list(by_name) == ["trainable", "memory", "curves"]
    marks = [trace for trace in by_name["trainable"].figure["data"] if "text" in trace]
    assert sum(len(trace["x"]) for trace in marks) == 5
    assert sorted(text for trace in marks for text in trace["text"] if text) == ["1", "2", "4", "6"]
    assert len(by_name["curves"].figure["data"]) == 4
    best_for_its_cost = by_name["trainable"].figure["data"][0]
    assert best_for_its_cost["x"] == [9_000, 20_000, 73_728, 150_000]
    assert best_for_its_cost["y"] == sorted(best_for_its_cost["y"])


def test_a_baseline_far_away_is_named_at_the_edge_and_squeezes_nothing() -> None:
    close = bare(trial(1, accuracies=(0.90,)), trial(2, accuracies=(0.92,), trainable=99_999))
    away = replace(close, baselines=record().baselines)
    layout = plots(away, find(away))[0].figure["layout"]
    assert layout["shapes"] == []
    assert [note["text"] for note in layout["annotations"]] == ["linear probe 0.812 ↓", "majority class 0.509 ↓"]


def test_baselines_whose_labels_would_cover_each_other_are_told_line_above_line() -> None:
    close = bare(trial(1, accuracies=(0.90,)), trial(2, accuracies=(0.92,), trainable=99_999))
    away = replace(close, baselines=record().baselines)
    notes = plots(away, find(away))[0].figure["layout"]["annotations"]
    assert [note["yshift"] for note in notes] == [0, 15]


def test_the_page_tells_how_to_take_what_it_recommends() -> None:
    best = find(record()).front[0].number
    assert f"<code>autopeft export sst2-20261124-1530 {best} --to winner/</code>" in render(record(), "html")
    assert "autopeft export" not in render(bare(), "html")

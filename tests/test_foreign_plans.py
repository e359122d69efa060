"""Any YAML and any options: a plan, or an answer in a sentence, by bounded work."""

from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autopeft.cli import main
from autopeft.errors import AutopeftError
from autopeft.objectives import UNITS
from autopeft.plan import Budget, Plan, Resources
from autopeft.reports.findings import plan_lines
from autopeft.searching.whereabouts import rooted
from autopeft.trial import SearchRecord
from tests.watchdog import ended_after

texts = st.text(max_size=12) | st.sampled_from(
    ["", "lora,bitfit", "8GiB", "1%", "30m", "1e308", "1e308%", "-1", "0", "nan", "1_000", "1,000", ".5", "9" * 5001,
     "\x1b[2J", "~nobody/x", "a" * 5000, "\0", "\ud800", "1:30"]
)  # fmt: skip
numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 2**63, 10**400, 1e308])
huge = st.sampled_from([5001, 9999]).map(lambda digits: 10**digits)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.binary(max_size=3) | texts | leaves
    keys = texts | numbers | st.booleans()
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=5
    )


values = nested(numbers | huge)
names = st.sampled_from([each.name for kind in (Plan, Budget) for each in fields(kind)])
budgets = st.dictionaries(st.sampled_from(list(UNITS)) | texts, values, max_size=3) | values
HEALTH = list(HealthCheck)


def used(plan: Plan) -> None:
    """What is done with a plan before anything is read: it is rooted, told, and remembered."""
    found = rooted(plan)
    assert Plan.from_dict(found.to_dict()) == found
    plan_lines(SearchRecord("any", found, datetime.now(UTC)))
    found.budget.resolved(10**9).limits()


@settings(max_examples=300, suppress_health_check=HEALTH)
@given(st.dictionaries(names | texts, values, max_size=3), budgets)
def test_any_values_make_a_plan_or_are_answered(given: dict[str, Any], budget: Any) -> None:
    with ended_after(20), suppress(AutopeftError):
        used(Plan.from_dict({"model": "m", "data": "d", "budget": budget, **given}))


@settings(max_examples=150, suppress_health_check=HEALTH)
@given(st.dictionaries(st.sampled_from([each.name for each in fields(Resources)]), values, max_size=3))
def test_any_values_make_resources_or_are_answered(given: dict[str, Any]) -> None:
    with ended_after(20), suppress(AutopeftError):
        Resources(**given)


written = st.dictionaries(names, nested(numbers), max_size=3).map(
    lambda given: yaml.dump({"model": "m", "data": "d", **given})
)
pieces = [
    "a: ",
    "&a ",
    "*a ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "\n",
    "? ",
    "!!int ",
    "'",
    '"',
    "model: m\n",
    "data: d\n",
    "<<: ",
]
pieces += ["|", ">", "#", "%", "---\n", "9", "9" * 5001, "1:1", "=", "\t", "\\x"]
scribbled = st.lists(st.sampled_from(pieces)).map("".join)


@settings(max_examples=200, suppress_health_check=HEALTH)
@given(written | scribbled | st.binary(max_size=30))
def test_any_file_is_a_plan_or_is_answered(tmp_path_factory: pytest.TempPathFactory, content: str | bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "plan.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    with ended_after(20), suppress(AutopeftError):
        used(Plan.from_yaml(file))


OPTIONS = [each for each in main.commands["search"].params if isinstance(each, click.Option) and not each.is_flag]


@settings(max_examples=50, suppress_health_check=HEALTH)
@given(st.dictionaries(st.sampled_from([each.opts[0] for each in OPTIONS]), texts, max_size=4))
def test_any_options_are_answered(tmp_path_factory: pytest.TempPathFactory, given: dict[str, str]) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "file").write_text("")
    known = {"--storage": f"sqlite:///{folder}/x.db", "--model": "m", "--data": "d", **given}
    said = [part for pair in {**known, "--folder": str(folder / "file")}.items() for part in pair]
    with ended_after(20):
        result = CliRunner().invoke(main, ["search", *said])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2


def test_a_plan_that_cannot_be_read_is_answered() -> None:
    for path in (Path("\0"), Path("n" * 300), Path("/")):
        with pytest.raises(AutopeftError, match="cannot read the plan"):
            Plan.from_yaml(path)

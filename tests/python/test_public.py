"""The Python interface: which names there are, that their signatures name every setting, and what their texts tell."""

import inspect
import pydoc
import re
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

import autopeft
from autopeft.costs import estimate as costs
from autopeft.plan import Budget, Plan, Resources
from autopeft.storage.repository import Repository
from tests.reports.records import record
from tests.tiny import tiny

NAMES = {
    *("search", "start", "resume", "open", "delete", "Search", "Running", "Trial", "SearchRecord"),
    *("Plan", "Budget", "Resources", "load", "TrainedModel", "register", "method", "attach"),
    *("predict", "measure", "estimate", "Costs", "Estimate", "AutopeftError"),
    *("list_searches", "list_methods", "list_spaces", "list_tasks"),
}
FUNCTIONS = sorted(name for name in NAMES if name[0].islower())
UNITS = {
    "search": ("seconds", "AutopeftError"),
    "start": ("AutopeftError",),
    "resume": ("seconds", "AutopeftError"),
    "open": ("URL", "AutopeftError"),
    "delete": ("AutopeftError",),
    "load": ("device", "dtype", "AutopeftError"),
    "register": ("AutopeftError",),
    "method": ("AutopeftError",),
    "attach": ("CannotAttach",),
    "predict": ("examples", "CannotAttach", "AutopeftError"),
    "measure": ("head", "CannotAttach", "AutopeftError"),
    "estimate": ("seconds", "AutopeftError"),
    "list_searches": ("URL", "AutopeftError"),
    "list_methods": ("parameters",),
    "list_spaces": ("methods",),
    "list_tasks": ("columns",),
}
"""What the text of a function must speak of, units and errors among it."""


def settings_of(function: Any) -> dict[str, Any]:
    """The defaults of all that may be given by name."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.name != "self"}


def default_of(field: "Field[Any]") -> Any:
    """A field's default; None stands for one that is made."""
    return None if field.default is MISSING else field.default


def test_these_are_the_public_names() -> None:
    assert set(autopeft.__all__) == NAMES
    assert set(autopeft._WHERE) == NAMES
    assert set(dir(autopeft)) == NAMES | {"__doc__", "__version__"}
    assert all(getattr(autopeft, name) is not None for name in NAMES)
    with pytest.raises(AttributeError, match="has no attribute 'serch'"):
        _ = autopeft.serch


@pytest.mark.parametrize("function", [autopeft.search, autopeft.start])
def test_a_search_names_every_setting_with_its_default(function: Any) -> None:
    settings = settings_of(function)
    for field in (*fields(Plan), *fields(Resources)):
        if field.name not in ("model", "data"):
            assert settings.pop(field.name) == default_of(field), field.name
    del settings["model"], settings["data"]
    assert settings == {"name": None} | ({"on_event": None, "quiet": False} if function is autopeft.search else {})


def test_an_estimate_may_be_quiet_and_is_asked_what_costs_are_asked() -> None:
    settings = settings_of(autopeft.estimate)
    assert settings.pop("quiet") is False
    assert settings == settings_of(costs.estimate)


@pytest.mark.parametrize("function", [autopeft.resume, autopeft.Search.confirm])
def test_who_goes_on_with_a_search_names_every_resource(function: Any) -> None:
    settings = settings_of(function)
    for field in fields(Resources):
        own = field.name == "folder" or (field.name == "storage" and function is not autopeft.resume)
        assert settings[field.name] == (None if own else field.default), field.name


def test_select_names_every_limit() -> None:
    settings = settings_of(autopeft.Search.select)
    limits = settings_of(Budget)
    assert settings == {"prefer": "score", **limits}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_help_lists_and_explains_every_public_name(name: str) -> None:
    assert autopeft.__doc__ is not None
    assert name in autopeft.__doc__.replace(",", " ").split() or f"`{name}`" in autopeft.__doc__
    told = getattr(autopeft, name).__doc__
    assert told
    assert told.strip()[0].isupper() or told.startswith("`"), "a sentence, not what dataclasses make"


@pytest.fixture(scope="module")
def helped() -> str:
    return pydoc.render_doc(autopeft, renderer=pydoc.plaintext)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_shows_the_signature_of_every_function(helped: str, name: str) -> None:
    called = getattr(autopeft, name).__name__
    assert f"\n    {called}(" in helped or f"\n    {name} = {called}(" in helped


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_units_and_errors_and_types_of_all_that_it_takes(name: str) -> None:
    function = getattr(autopeft, name)
    assert not [word for word in UNITS[name] if word not in inspect.getdoc(function)]
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for each in signature.parameters.values():
        assert each.annotation is not inspect.Parameter.empty, each.name
        # Settings of a method are those of its card.
        assert each.kind is not inspect.Parameter.VAR_KEYWORD or name == "method"


@pytest.mark.parametrize("name", sorted(NAMES - set(FUNCTIONS)))
def test_what_people_hold_explains_all_that_can_be_asked_of_it(name: str) -> None:
    kind = getattr(autopeft, name)
    data = {each.name for each in fields(kind)} if is_dataclass(kind) else set()
    untold = [
        each
        for each, value in inspect.getmembers(kind)
        if not each.startswith("_") and each not in data and (callable(value) or isinstance(value, property))
        if not inspect.getdoc(value)
    ]
    assert not untold


def test_methods_and_what_they_are_attached_to_show_themselves_shortly() -> None:
    method = autopeft.method("prompt_tuning", length=5)
    assert re.fullmatch(r"<method prompt_tuning: length=5.*>", repr(method))
    with autopeft.attach(tiny("bert"), method) as attached:
        assert repr(attached) == "<Attached: prompt_tuning; 240 trained parameters>"


def test_a_summary_of_a_search_shows_no_addresses(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/searches.db"
    with Repository(storage) as repository:
        repository.create(record())
    assert " at 0x" not in repr(autopeft.list_searches(storage))

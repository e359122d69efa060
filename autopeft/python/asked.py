"""A call's arguments, sorted: what belongs to the plan, and where it is to run."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.plan import Plan, Resources
from autopeft.searching.own_code import named


def plan_of(arguments: Mapping[str, Any]) -> Plan:
    """The plan that a call asks for, whose first argument may be a whole one. Raises AutopeftError."""
    asked = {each.name: arguments[each.name] for each in fields(Plan)}
    plan = asked.pop("model")
    if not isinstance(plan, Plan):
        return Plan.from_dict(named({"model": plan, **asked}))
    beside = [each.name for each in fields(Plan) if each.name in asked and _is_given(asked[each.name], each)]
    if beside:
        raise AutopeftError(
            f"a plan says itself what is searched, and {', '.join(beside)} beside it: change the plan, as in "
            f"dataclasses.replace(plan, {beside[0]}=…)."
        )
    return plan


def resources_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Resources` that a call gives."""
    asked = {each.name: arguments[each.name] for each in fields(Resources)}
    return {name: value for name, value in asked.items() if value is not None}


def _is_given(value: Any, field: Any) -> bool:
    return value is not None and value != field.default

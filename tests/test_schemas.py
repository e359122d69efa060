"""Schemas of dataclasses: every field with its docstring, and what we write is as its schema says."""

import json
import math
from dataclasses import replace

import jsonschema

from autopeft.plan import Budget, Plan, field_docs
from autopeft.reports.format.json import render
from autopeft.schemas import schema_as_given, schema_of
from autopeft.trial import Trial
from tests.reports.records import record, trial


def test_a_plan_is_described_as_users_write_it() -> None:
    schema = schema_as_given(Plan)
    assert {name: each["description"] for name, each in schema["properties"].items()} == field_docs(Plan)
    assert schema["required"] == ["model", "data"]
    plain = {"model": "m", "data": "d", "budget": {"memory": "8GiB", "trainable": "1%"}, "methods": "lora,ia3"}
    jsonschema.validate({**plain, "time": "2h", "columns": {"text": ["a"]}}, schema)
    assert schema_as_given(Budget)["properties"]["memory"]["description"]
    assert set(schema_as_given(Plan, "model", "data")["properties"]) == set(field_docs(Plan)) - {"model", "data"}


def test_trials_are_written_as_their_schema_says_also_odd_ones() -> None:
    schema = schema_of(Trial, "search", "answers", "alone", "until")
    odd = trial(9, accuracies=(math.nan, math.inf))
    whole = replace(record(), trials=(*record().trials, odd))
    for each in json.loads(render(whole))["trials"]:
        jsonschema.validate(each, schema)
    assert "answers" not in schema["properties"]["outcome"]["anyOf"][0]["properties"]
    assert schema["properties"]["candidate"]["properties"]["parts"]["items"]["properties"]["learning_rate"]

"""Types of columns: what goes in comes back, in any database of SQLAlchemy.

Moments come back in UTC, and numbers that are not finite come back.
"""

import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Double, TypeDecorator
from sqlalchemy.dialects.mysql import DATETIME

_NOT_FINITE = "__float__"
"""The only key of the mapping that stands in JSON for a number that JSON cannot hold."""


class Moment(TypeDecorator[datetime]):
    """A moment with its time zone, in UTC; also where the database knows no time zones."""

    impl = DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, _: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)


class Real(TypeDecorator[float]):
    """A float that is always known; 'not a number' is NULL, because not every database has it."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, _: Dialect) -> float | None:
        return None if value is None or math.isnan(value) else value

    def process_result_value(self, value: float | None, _: Dialect) -> float:
        return math.nan if value is None else value


class Plain(TypeDecorator[Any]):
    """Plain values as JSON: mappings, lists (tuples come back as lists), texts and numbers, finite or not."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Any, _: Dialect) -> Any:
        return _into_json(value)

    def process_result_value(self, value: Any, _: Dialect) -> Any:
        return _out_of_json(value)


def _into_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _into_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_into_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {_NOT_FINITE: str(value)}
    return value


def _out_of_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_out_of_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_NOT_FINITE}:
        return float(value[_NOT_FINITE])
    return {key: _out_of_json(item) for key, item in value.items()}

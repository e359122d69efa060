"""Scores of any metric with standard errors and what every row is worth; costs as one JSON column for each kind."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_ACCURACY = {"name": "accuracy", "heading": "accuracy", "higher_is_better": True, "ideal": 1.0}
_BASELINES = {"majority": "majority class", "probe": "linear probe"}
_NOT_A_NUMBER = {"__float__": "nan"}
_WHOLE = ("trainable", "memory", "stored", "flops", "inference_flops", "set_up_flops")
_KINDS = {
    **dict.fromkeys(("plan", "baselines", "facts", "metric", "predicted", "measured", "others"), sa.JSON()),
    **dict.fromkeys(("right", "values"), sa.LargeBinary()),
    "memory_by_part": sa.JSON(),
}
_TRIAL = ("search_id", "number")


def upgrade() -> None:
    _add("searches", task=sa.String(100), metric=sa.JSON())
    _add("trials", predicted=sa.JSON())
    _add("curves", error=sa.Double(), others=sa.JSON())
    _add("outcomes", measured=sa.JSON(), score=sa.Double(), rows=sa.BigInteger(), values=sa.LargeBinary())
    for table in ("curves", "answers"):
        _rename(table, "accuracy", "score", sa.Double(), nullable=True)
    _rename("answers", "right", "values", sa.LargeBinary(), nullable=False)
    rows = {}
    for search in _all("searches", "id", "plan", "baselines", "facts"):
        facts, baselines = search["facts"], search["baselines"] or {}
        known = facts.get("validation_rows") if isinstance(facts, dict) else None
        rows[search["id"]] = known if isinstance(known, int) and 0 < known < 2**63 else None
        made = {}
        for name in _BASELINES.keys() & baselines:
            error = _error(baselines[name], rows[search["id"]])
            made[_BASELINES[name]] = {
                "score": baselines[name],
                "error": _NOT_A_NUMBER if error is None else error,
            }
        plan = _called(search["plan"], {"accuracy": "score", "accuracy_at_least": "score"})
        _set("searches", {"id": search["id"]}, plan=plan, baselines=made, task="text-classification", metric=_ACCURACY)
    for rung in _all("curves", *_TRIAL, "position", "score"):
        key = {name: rung[name] for name in (*_TRIAL, "position")}
        _set("curves", key, error=_error(rung["score"], rows[rung["search_id"]]), others={})
    for costs in _all("costs", *_TRIAL, "kind", "memory_by_part", "overhead", *_WHOLE):
        table, column = ("trials", "predicted") if costs["kind"] == "predicted" else ("outcomes", "measured")
        plain = {name: value for name, value in costs.items() if name not in (*_TRIAL, "kind")}
        _set(table, {name: costs[name] for name in _TRIAL}, **{column: plain})
    _convert_answers("values", lambda right, count: np.unpackbits(right)[:count].astype("<f4"))
    op.drop_table("costs")
    _require("searches", task=sa.String(100), metric=sa.JSON(), baselines=sa.JSON())
    _require("trials", predicted=sa.JSON())
    _require("curves", others=sa.JSON())


def downgrade() -> None:
    own = [sa.Column(name, sa.Integer(), autoincrement=False, nullable=False) for name in _TRIAL]
    op.create_table(
        "costs",
        *own,
        sa.Column("kind", sa.String(20), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=name.endswith("_flops")) for name in _WHOLE),
        sa.Column("memory_by_part", sa.JSON(), nullable=False),
        sa.Column("overhead", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint(*_TRIAL, "kind", name="pk_costs"),
        sa.ForeignKeyConstraint(
            _TRIAL, [f"trials.{name}" for name in _TRIAL], name="fk_costs_search_id_number", ondelete="CASCADE"
        ),
    )
    for table, column in (("trials", "predicted"), ("outcomes", "measured")):
        for row in _all(table, *_TRIAL, column):
            if row[column]:
                key = {name: row[name] for name in _TRIAL}
                held = {name: row[column].get(name) for name in (*_WHOLE, "memory_by_part", "overhead")}
                op.execute(_table("costs", *key, "kind", *held).insert().values(**key, kind=column, **held))
    with op.batch_alter_table("searches") as searches:
        searches.alter_column("baselines", existing_type=sa.JSON(), nullable=True)
    for search in _all("searches", "id", "plan", "baselines"):
        names = {name: old for old, name in _BASELINES.items()}
        plan = _called(search["plan"], {"score": "accuracy"}, {"score": "accuracy_at_least"})
        plan.pop("metric", None)
        made = {names[name]: each["score"] for name, each in search["baselines"].items() if name in names}
        _set("searches", {"id": search["id"]}, plan=plan, baselines=made if len(made) == len(names) else sa.null())
    _convert_answers("values", lambda values, _: np.packbits(np.frombuffer(values, "<f4") > 0.5))
    _rename("answers", "values", "right", sa.LargeBinary(), nullable=False)
    for table in ("curves", "answers"):
        _rename(table, "score", "accuracy", sa.Double(), nullable=True)
    added = {
        "searches": ("task", "metric"),
        "trials": ("predicted",),
        "curves": ("error", "others"),
        "outcomes": ("measured", "score", "rows", "values"),
    }
    for table, columns in added.items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.drop_column(column)


def _called(plan: Any, names: Mapping[str, str], limits: Mapping[str, str] | None = None) -> Any:
    """A plan with other names of objectives and limits; what is no plan stays as it is, and is told when it is read."""
    if not (isinstance(plan, dict) and isinstance(plan.get("budget"), dict)):
        return plan
    budget = {(limits or names).get(name, name): limit for name, limit in plan["budget"].items()}
    return {**plan, "budget": budget, "objectives": [names.get(name, name) for name in plan.get("objectives", ())]}


def _error(score: Any, rows: int | None) -> float | None:
    """Of a fraction of right answers; None where nobody knows."""
    is_fraction = isinstance(score, float | int) and 0 <= score <= 1
    return math.sqrt(score * (1 - score) / rows) if rows and is_fraction else None


def _convert_answers(column: str, convert: Callable[[Any, int], Any]) -> None:
    keys = (*_TRIAL, "repeat", "split")
    for row in _all("answers", *keys, "rows", column):
        values = convert(np.frombuffer(row[column], np.uint8), row["rows"]).tobytes()
        _set("answers", {name: row[name] for name in keys}, **{column: values})


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column, _KINDS.get(column)) for column in columns))


def _all(name: str, *columns: str) -> list[dict[str, Any]]:
    found = op.get_bind().execute(sa.select(_table(name, *columns)))
    return [dict(row) for row in found.mappings()]


def _set(name: str, key: Mapping[str, Any], **values: Any) -> None:
    table = _table(name, *key, *values)
    op.execute(table.update().where(*(table.c[column] == value for column, value in key.items())).values(**values))


def _add(table: str, **columns: Any) -> None:
    with op.batch_alter_table(table) as batch:
        for name, kind in columns.items():
            batch.add_column(sa.Column(name, kind, nullable=True))


def _require(table: str, **columns: Any) -> None:
    with op.batch_alter_table(table) as batch:
        for name, kind in columns.items():
            batch.alter_column(name, existing_type=kind, nullable=False)


def _rename(table: str, name: str, to: str, kind: Any, nullable: bool) -> None:
    with op.batch_alter_table(table) as batch:
        batch.alter_column(name, new_column_name=to, existing_type=kind, existing_nullable=nullable)

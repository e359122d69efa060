"""Searches, their trials, and the curves, costs and outcomes of trials."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import DATETIME

revision = "0001"
down_revision = None

_MOMENT = sa.DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "searches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created", _MOMENT, nullable=False),
        sa.Column("ended", _MOMENT, nullable=True),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("baselines", sa.JSON(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("turned_away", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_searches"),
        sa.UniqueConstraint("name", name="uq_searches_name"),
    )
    op.create_table(
        "trials",
        sa.Column("search_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("candidate", sa.JSON(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("started", _MOMENT, nullable=True),
        sa.Column("finished", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("search_id", "number", name="pk_trials"),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name="fk_trials_search_id", ondelete="CASCADE"),
    )
    _create_table_of_trials(
        "curves",
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        key="position",
    )
    _create_table_of_trials(
        "costs",
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("trainable", sa.BigInteger(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.BigInteger(), nullable=False),
        sa.Column("flops", sa.BigInteger(), nullable=False),
        sa.Column("memory_by_part", sa.JSON(), nullable=False),
        key="kind",
    )
    _create_table_of_trials(
        "outcomes",
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("artifact", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    for table in ("outcomes", "costs", "curves", "trials", "searches"):
        op.drop_table(table)


def _create_table_of_trials(name: str, *columns: sa.Column[object], key: str | None = None) -> None:
    own = ("search_id", "number")
    op.create_table(
        name,
        *(sa.Column(column, sa.Integer(), autoincrement=False, nullable=False) for column in own),
        *columns,
        sa.PrimaryKeyConstraint(*own, *([key] if key else []), name=f"pk_{name}"),
        sa.ForeignKeyConstraint(
            own, [f"trials.{column}" for column in own], name=f"fk_{name}_search_id_number", ondelete="CASCADE"
        ),
    )

"""Confirmations of trials, and which rows each one answered rightly."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import DATETIME

revision = "0002"
down_revision = "0001"

_MOMENT = sa.DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "confirmations",
        sa.Column("search_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("repeat", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("finished", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("search_id", "number", "repeat", name="pk_confirmations"),
        sa.ForeignKeyConstraint(
            ["search_id", "number"],
            ["trials.search_id", "trials.number"],
            name="fk_confirmations_search_id_number",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "answers",
        sa.Column("search_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("repeat", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("split", sa.String(20), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("right", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("search_id", "number", "repeat", "split", name="pk_answers"),
        sa.ForeignKeyConstraint(
            ["search_id", "number", "repeat"],
            ["confirmations.search_id", "confirmations.number", "confirmations.repeat"],
            name="fk_answers_search_id_number_repeat",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    for table in ("answers", "confirmations"):
        op.drop_table(table)

"""Costs of inference: not known of trials from before."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("costs") as costs:
        costs.add_column(sa.Column("inference_flops", sa.BigInteger(), nullable=True))
        costs.add_column(sa.Column("overhead", sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("costs") as costs:
        costs.drop_column("overhead")
        costs.drop_column("inference_flops")

"""Operations on training data before the first step: not known of trials from before."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("costs") as costs:
        costs.add_column(sa.Column("set_up_flops", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("costs") as costs:
        costs.drop_column("set_up_flops")

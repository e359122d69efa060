"""Weights of rungs: none were kept of those from before."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("curves") as curves:
        curves.add_column(sa.Column("artifact", sa.Text(), nullable=True))
    op.execute(sa.table("curves", sa.column("artifact", sa.Text())).update().values(artifact=""))
    with op.batch_alter_table("curves") as curves:
        curves.alter_column("artifact", existing_type=sa.Text(), nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("curves") as curves:
        curves.drop_column("artifact")

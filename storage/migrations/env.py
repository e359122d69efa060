"""Runs migrations on the connection that `autopeft.storage.schema.migrate` hands over."""

from alembic import context

from autopeft.storage import models, service  # noqa: F401 (they declare the tables)
from autopeft.storage.base import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()

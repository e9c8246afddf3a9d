"""Run by Alembic; the connection comes from `migrate`."""

from alembic import context

from captionist.server.store.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()

"""Alembic's entry point; see `kit.migrate`."""

from kit.migrate import run

run()

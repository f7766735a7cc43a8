"""Alembic's entry: the kit does the rest."""

from kit.migrate import run

run()

"""Knowing that it works: health checks."""

"""Builds, describes, signs and records the project's images."""

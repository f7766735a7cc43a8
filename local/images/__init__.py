"""Builds, signs and records the project's images, with SBOM and provenance."""

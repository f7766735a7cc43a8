"""Module that a worker loads before its first job: detectors and Presidio."""

from guardrails import large

large.guard()

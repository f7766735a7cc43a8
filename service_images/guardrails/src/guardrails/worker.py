"""What a worker loads before its first job, so that none waits for the detectors and Presidio."""

from guardrails import large

large.guard()

"""Errors of jobs in worker processes (see `kit/workers.py`)."""

from __future__ import annotations

from kit.errors import ApiError, ErrorType


class WorkError(ApiError):
    """A job was not completed. The message can be shown to the caller."""

    outcome = "failed"


class TooLarge(WorkError):
    """The input or the answer of the job is too large (413)."""

    outcome = "too_large"

    def __init__(self, message: str) -> None:
        super().__init__(413, message, code="too_large")


class OutOfMemory(WorkError):
    """The job needs more memory than allowed (413)."""

    outcome = "out_of_memory"

    def __init__(self, limit_mb: int) -> None:
        super().__init__(413, f"Processing needs more than the {limit_mb} MB of memory allowed.", code="out_of_memory")


class OutOfTime(WorkError):
    """The job needs more CPU or wall-clock time than allowed (413)."""

    outcome = "out_of_time"

    def __init__(self, limit_s: float, kind: str) -> None:
        super().__init__(413, f"Processing takes longer than the {limit_s:g} s of {kind} allowed.", code="out_of_time")


class Crashed(WorkError):
    """The worker process crashed during the job (400)."""

    outcome = "crashed"

    def __init__(self, how: str) -> None:
        super().__init__(400, f"Processing failed: the worker process ended ({how}).", code="worker_crashed")


class Busy(WorkError):
    """Too many jobs are waiting, of the tenant or of all tenants (429)."""

    outcome = "busy"

    def __init__(self, message: str) -> None:
        super().__init__(429, message, ErrorType.RATE_LIMIT, code="busy", retry_after_s=1)


class JobFailed(Exception):
    """The job raised an exception: `kind` is the name of its class, the message is its message."""

    outcome = "error"

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message

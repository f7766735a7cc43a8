"""How a service forwards another service's refusal over gRPC to its own caller."""

from __future__ import annotations

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from kit import rpc


def refused(code: grpc.StatusCode, details: str, *trailers: tuple[str, str]) -> tuple[int, str, str | None]:
    error = rpc.refused(AioRpcError(code, Metadata(), Metadata(*trailers), details), "The Router")
    return error.status, error.message, error.code


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.UNAUTHENTICATED, 401),
        (grpc.StatusCode.PERMISSION_DENIED, 403),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    ],
)
def test_errors_that_the_caller_can_correct_are_forwarded(code: grpc.StatusCode, status: int) -> None:
    assert refused(code, "no such model", ("error-code", "model_not_found")) == (
        status,
        "no such model",
        "model_not_found",
    )


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN])
def test_errors_that_the_caller_cannot_correct_are_hidden(code: grpc.StatusCode) -> None:
    assert refused(code, "10.0.0.7:9090 refused") == (503, "The Router is unavailable.", "unavailable")

"""A server on loopback that receives spans by OTLP over gRPC and keeps them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service


@dataclass
class Receiver:
    """What has arrived."""

    port: int = 0
    spans: list[Any] = field(default_factory=list[Any])
    """Spans, as in the protocol."""
    answers: threading.Event = field(default_factory=threading.Event)
    """Deliveries wait for it."""

    def attributes(self, request_id: str) -> dict[str, str]:
        """Attributes of the gateway's span of a request; empty until it has arrived."""
        for span in list(self.spans):
            found = {one.key: one.value.string_value for one in span.attributes}
            if found.get("http.request.header.x-request-id") == request_id:
                return found
        return {}

    def span(self, request_id: str) -> Any:
        """The gateway's span of a request; None until it has arrived."""
        for span in list(self.spans):
            if any(one.value.string_value == request_id for one in span.attributes):
                return span
        return None


class _Service(service.TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:
        self._receiver.answers.wait(60)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self._receiver.spans.extend(scope.spans)
        return messages.ExportTraceServiceResponse()


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """A receiver at the port, or at a free one."""
    made = Receiver()
    made.answers.set()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service.add_TraceServiceServicer_to_server(_Service(made), server)
    made.port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield made
    finally:
        made.answers.set()
        server.stop(None).wait(20)

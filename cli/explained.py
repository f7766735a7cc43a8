"""The document of `forge explain`: what happened to one request, as far as the platform has recorded it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from cli.document import Document


class Candidate(Document):
    """A target that a request could have been sent to."""

    target: str
    score: float = Field(
        description="In the unit of the strategy: weight, mean reward, share of the requests, or seconds of latency "
        "times requests in flight"
    )
    in_flight: int = Field(description="Requests that it was answering")
    broken: bool = Field(description="Whether its circuit breaker was open")


class MadeAttempt(Document):
    """One call of a target."""

    target: str
    model: str = Field(description="Model of the route: the requested one, or a fallback")
    begun_ms: float = Field(description="Milliseconds after the beginning of the request")
    duration_ms: float
    outcome: str = Field(
        description='"answered", "failed", "interrupted" (in the middle of a stream), "timed-out", "overtaken" (by a '
        'target that was called at the same time) or "stopped" (by Guardrails or the client)'
    )
    reason: str
    hedge: bool = Field(description="Whether it was begun while another attempt was running")
    continues: bool = Field(description="Whether it continued the interrupted stream of another target")


class GuardVerdict(Document):
    """What Guardrails has decided about the request or the answer."""

    direction: str = Field(description='"input" or "output"')
    action: str = Field(
        description='The strictest: "allow", "flag", "redact", "block", "unanswered" or "unchecked" (token IDs)'
    )
    kinds: dict[str, int] = Field(description="Number of findings by kind; empty where nothing was found")


class PolicyDecision(Document):
    """A decision of the gateway's policy that Audit keeps: a refusal, an operator's write, or a broken glass."""

    outcome: str = Field(description='"allowed" or "denied"; empty once the content has expired')
    rule: str
    overridden: str = Field(description="Rule that an operator has overridden, or empty")
    reason: str = Field(description="The operator's reason for that, or empty")
    method: str
    target: str = Field(description="Path, without the query")
    times: int = Field(
        description="Number of requests of this kind that the entry stands for. Their first has an entry of its own; "
        "those of the next minute have one together, with the ID of the last"
    )


class PriceLine(Document):
    """One kind of usage with the price of its time."""

    kind: str = Field(description='"input", "output" (tokens) or "request"')
    quantity: int
    unit_usd: str
    per: int = Field(description="Number of units that the price is for")
    usd: str
    price: str = Field(description="Which price: its tenant, or all, its model, or any, and its beginning")


class InvoiceLine(Document):
    """A line of an issued invoice that includes the request."""

    kind: str
    quantity: int
    events: int = Field(description="Number of requests in the line")
    usd: str


class Invoiced(Document):
    """The invoice that has the request."""

    period: str
    number: int | None = Field(description="Null until it is issued; its lines are final then")
    lines: list[InvoiceLine]


class AuditLeaf(Document):
    """An entry of the audit log."""

    number: int
    type: str
    verified: bool = Field(
        description="Whether this command has verified the content, the inclusion proof and the signature"
    )
    reason: str = Field(description="Why it is not verified, or empty")
    log_size: int = Field(description="Entries of the log at the checkpoint that the proof leads to")


class RecordedSpan(Document):
    """A span of the request's trace."""

    service: str
    name: str
    begun_ms: float = Field(description="Milliseconds after the first span")
    duration_ms: float
    depth: int = Field(description="Number of spans around it")
    failed: bool


class ExplainedRequest(Document):
    """One request with this ID."""

    tenant: str
    user: str = Field(description="User as the request names it")
    key: str = Field(description="ID of the API key, never its secret; empty for keys of the route table")
    scopes: list[str]
    time: datetime | None = Field(description="End of the request; null if no model has answered")
    model: str
    operation: str
    status: int | None = Field(description="HTTP status; null if no model has answered")
    duration_ms: float | None
    first_token_ms: float | None = Field(description="Null without a stream")
    trace: str = Field(description="Trace ID")
    cache: str = Field(
        description='Why a kept answer was used: "equal", "repeated", "similar" or "shared" request; empty if none was'
    )
    prompt: str = Field(description="Stored prompt, as name@version")
    target: str
    strategy: str = Field(description="How the target was chosen; empty where there was only one")
    candidates: list[Candidate]
    attempts: list[MadeAttempt]
    policy: list[PolicyDecision]
    guard: list[GuardVerdict]
    input_tokens: int
    output_tokens: int
    estimated: bool = Field(description="Whether the Router has counted some of the tokens")
    lines: list[PriceLine]
    unpriced: list[str] = Field(description="Kinds of usage without a price")
    usd: str | None = Field(description="Exact price; null if Billing does not have the request")
    invoice: Invoiced | None
    audit: list[AuditLeaf]
    spans: list[RecordedSpan]


class Explanation(Document):
    """Document of `forge explain`."""

    version: Literal[1] = 1
    stack: str
    request: str
    requests: list[ExplainedRequest] = Field(
        description="Newest first. Clients may choose IDs, so one ID may have several requests"
    )
    gaps: list[str] = Field(description="What could not be read, and why")

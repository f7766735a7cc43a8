"""Collects what Audit and Billing know about one request, verifies it, and makes it one explanation."""

from __future__ import annotations

import re
from typing import Any

import httpx

from cli import audit_log, gateway
from cli.explained import ExplainedRequest, Explanation
from components.services.registry import LEDGER, SERVICES, USAGE
from local.errors import LocalError

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_AUDIT, _BILLING = LEDGER.name, USAGE.name
Json = dict[str, Any]


def collect(client: httpx.Client, stack_name: str, request: str, log_key: str = "") -> Explanation:
    """Explain a request. `log_key`: trusted public key of the audit log; empty: the one that Audit reports now.

    Raises LocalError if nobody knows the request, or if it belongs to another tenant.
    """
    if not _ID.fullmatch(request):
        raise LocalError(
            f"{request[:40]!a} is not the ID of a request",
            reason="an ID has 1 to 128 letters, digits, dots, hyphens and underscores",
            fix="use the value of the header x-request-id of the answer",
        )
    gaps: list[str] = []
    logged = _read(client, _AUDIT, request, gaps)
    costs = _read(client, _BILLING, request, gaps)
    if logged is None and costs is None:
        raise LocalError(
            f"the request {request} is not known",
            reason="; ".join(gaps) or "Audit and Billing do not know it, or it belongs to another tenant",
            fix="check the ID; a request is recorded some seconds after its end",
        )
    lives = audit_log.life().requests(logged, costs, _trusted(client, logged, log_key))
    found = [ExplainedRequest(**life, spans=[]) for life in lives]
    if any(part and part["more"] for part in (logged, costs)):
        gaps.append("older requests with the same ID are not shown")
    return Explanation(stack=stack_name, request=request, requests=found, gaps=gaps)


def _read(client: httpx.Client, service: str, request: str, gaps: list[str]) -> Json | None:
    """A service's records about the request; None if it has none. Why they could not be read is added to the gaps."""
    try:
        return gateway.ask(client, "GET", gateway.path(f"{service}/requests", request))
    except gateway.Refused as error:
        if (error.status, error.param) != (404, "request"):
            gaps.append(f"{SERVICES[service].title}: HTTP {error.status}: {error.reason}")
    return None


def _trusted(client: httpx.Client, logged: Json | None, log_key: str) -> Any:
    """The signed checkpoint of the log, or the reason why it is not verified."""
    if logged is None:
        return ""
    proof = audit_log.proof()
    try:
        return proof.checkpoint(logged["checkpoint"], log_key or _log_key(client))
    except (proof.Unverified, LocalError) as error:
        return str(error)


def _log_key(client: httpx.Client) -> str:
    answer = client.get(f"{_AUDIT}/key")
    if not answer.is_success:
        raise LocalError(f"Audit does not report its public key: HTTP {answer.status_code}")
    return answer.text

"""Forms of pages: read within limits, and accepted from the page's own session only."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from kit.errors import ApiError, ErrorType
from starlette.requests import Request

MOST_BYTES = 256 * 1024
"""Longest form, in bytes: a question of 64 Ki characters, each of which may take several bytes."""
_MOST_FIELDS = 200
TOKEN = "csrf"
"""Field of each form that holds the session's token."""


def own_page(request: Request) -> None:
    """Refuse a request that a page of another site makes. Browsers state the page's origin with each POST.

    Raises ApiError(403).
    """
    headers = request.headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    # In a mesh, the gateway sends another Host, and adds the browser's to what the browser sent.
    host = headers.get("x-forwarded-host", headers.get("host", "")).split(",")[-1].strip()
    if site in (None, "same-origin") and origin is not None and urlsplit(origin).netloc == host:
        return
    raise refused()


def refused() -> ApiError:
    """Error for a form that this session's pages did not send."""
    message = "This form does not come from a page of your session. Open the page again, and send the form from there."
    return ApiError(403, message, ErrorType.PERMISSION, code="form_refused")


def check(form: Mapping[str, str], token: str) -> None:
    """Compare the form's token with the session's. Raises ApiError(403)."""
    if not hmac.compare_digest(form.get(TOKEN, "").encode(), token.encode()):
        raise refused()


async def read(request: Request) -> dict[str, str]:
    """The fields of a form. Raises ApiError: 400 for a text that cannot be stored, 413, 415."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise ApiError(415, "The form is not application/x-www-form-urlencoded.")
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MOST_BYTES:
            raise ApiError(413, f"The form has more than {MOST_BYTES >> 10} KiB.", code="body_too_large")
    try:
        pairs = parse_qsl(
            content.decode("ascii"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except (UnicodeDecodeError, ValueError):
        raise ApiError(400, "The form is not valid UTF-8, or has too many fields.") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ApiError(400, "A field of the form occurs twice.")
    for name, value in found.items():
        if "\0" in name + value:
            raise ApiError(400, f"{name}: the text contains the character U+0000", param=name.replace("\0", ""))
    return {name: value.replace("\r\n", "\n") for name, value in found.items()}

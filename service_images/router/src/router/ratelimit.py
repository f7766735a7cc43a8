"""Headers with the remaining rates of a tenant, in the formats of OpenAI and Anthropic.

Sources: https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers";
https://docs.anthropic.com/en/api/rate-limits, "Response headers".
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.tenancy import Account, Bucket


def openai(account: Account, now: float) -> bytes:
    """Headers for a tenant with limits; empty for one without. `now`: clock of the buckets."""
    requests, tokens = account.requests, account.tokens
    if requests is None or tokens is None:
        one = requests or tokens
        return b"" if one is None else _openai(one, b"requests" if tokens is None else b"tokens", now)
    return _openai(requests, b"requests", now) + _openai(tokens, b"tokens", now)


def anthropic(account: Account, now: float) -> bytes:
    """The same for Anthropic's clients."""
    headers = b""
    for bucket, name in ((account.requests, b"requests"), (account.tokens, b"tokens")):
        if bucket is not None:
            most, left, seconds = bucket.state(now)
            reset = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds + 0.5)).encode()
            headers += (
                b"anthropic-ratelimit-%s-limit: %d\r\nanthropic-ratelimit-%s-remaining: %d\r\n"
                b"anthropic-ratelimit-%s-reset: %s\r\n" % (name, most, name, left, name, reset)
            )
    return headers


def _openai(bucket: Bucket, name: bytes, now: float) -> bytes:
    most, left, seconds = bucket.state(now)
    shown = bucket.shown
    if not shown:
        shown = b"x-ratelimit-limit-%s: %d\r\nx-ratelimit-remaining-%s: " % (name, most, name)
        bucket.shown = shown
    if seconds < 1:  # the usual case, without a call
        return b"%s%d\r\nx-ratelimit-reset-%s: %dms\r\n" % (shown, left, name, seconds * 1000 + 0.999)
    return b"%s%d\r\nx-ratelimit-reset-%s: %s\r\n" % (shown, left, name, _duration(seconds))


def _duration(seconds: float) -> bytes:
    """OpenAI's notation for one second or more: 12s, 6m0s."""
    whole = int(seconds + 0.999)
    return b"%ds" % whole if whole < 60 else b"%dm%ds" % divmod(whole, 60)

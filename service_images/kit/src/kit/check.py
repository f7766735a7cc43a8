"""The platform's end-to-end check, `python3 -m kit.check`: requests a URL until it answers as expected.

The environment defines the request: CHECK_URL, CHECK_BODY (JSON; POST if set), CHECK_KEY_FILE (file with the
bearer token), CHECK_CA (PEM file), CHECK_EXPECT (a required field of the JSON answer), CHECK_TIMEOUT_SECONDS.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def ask(url: str, body: str, key: str, authority: str) -> Any:
    """Send one request. Returns the decoded answer."""
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, data=body.encode() or None, headers=headers)
    context = ssl.create_default_context(cafile=authority or None)
    with urllib.request.urlopen(request, timeout=10, context=context if url.startswith("https") else None) as answer:
        return json.load(answer)


def main() -> int:
    """Exit status 0 as soon as the answer is as expected, 1 after the timeout."""
    env = os.environ
    deadline = time.monotonic() + float(env.get("CHECK_TIMEOUT_SECONDS", "45"))
    expected, reason = env.get("CHECK_EXPECT", ""), ""
    while time.monotonic() < deadline:
        try:
            key = Path(file).read_text().strip() if (file := env.get("CHECK_KEY_FILE")) else ""
            answer = ask(env["CHECK_URL"], env.get("CHECK_BODY", ""), key, env.get("CHECK_CA", ""))
            if not expected or answer.get(expected):
                print(f"{env['CHECK_URL']} answers", flush=True)
                return 0
            reason = f'no "{expected}" in {str(answer)[:300]}'
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}: {error.read().decode(errors='replace')[:300]}"
        except (OSError, ValueError) as error:
            reason = str(error)
        time.sleep(0.5)
    print(f"{env['CHECK_URL']} does not answer as expected: {reason}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())

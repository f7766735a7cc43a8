"""What a browser does with Keycloak's pages, for tests."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import urlsplit

import httpx

PASSWORD = "correct horse battery staple"


class Browser:
    """What a browser does with Keycloak's pages: it keeps cookies, follows redirects, and sends forms."""

    def __init__(self) -> None:
        self.http = httpx.Client(trust_env=False, timeout=60)
        self.cookies: dict[tuple[str, str], str] = {}
        """By path and name: each realm has cookies of its own."""
        self.page: httpx.Response
        """Answer to the last form."""

    def open(self, method: str, address: str, **more: Any) -> httpx.Response:
        """Request an address, and follow redirects as long as they stay at Keycloak."""
        host = urlsplit(address).netloc
        while True:
            # Keycloak's cookies are for HTTPS only; browsers treat loopback as secure.
            path = urlsplit(address).path
            known = [(name, value) for (below, name), value in self.cookies.items() if path.startswith(below)]
            header = "; ".join(f"{name}={value}" for name, value in known)
            answer = self.http.request(method, address, headers={"cookie": header}, **more)
            self.cookies |= {(cookie.path, cookie.name): str(cookie.value) for cookie in answer.cookies.jar}
            if answer.status_code not in (302, 303) or urlsplit(answer.headers["location"]).netloc != host:
                return answer
            method, address, more = "GET", answer.headers["location"], {}

    def send(self, page: httpx.Response, **fields: str) -> httpx.Response:
        """Send the form of a page."""
        found = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        assert found is not None, page.text
        inputs = [one for one in re.findall(r"<input[^>]*>", page.text) if 'type="hidden"' in one]
        named = [(re.search(r'name="([^"]+)"', one), re.search(r'value="([^"]*)"', one)) for one in inputs]
        hidden = {name[1]: html.unescape(value[1]) for name, value in named if name and value}
        action = str(page.url.join(html.unescape(found[1])))
        self.page = self.open("POST", action, data={**hidden, **fields})
        return self.page

    def log_in(self, address: str, name: str, password: str = PASSWORD) -> httpx.Response:
        """Fill in the login form."""
        page = self.open("GET", address)
        assert page.status_code == 200, page.text
        return self.send(page, username=name, password=password)

    def through(self, address: str, provider: str, name: str, password: str = PASSWORD) -> httpx.Response:
        """Choose another provider on the login page, and log in there. Returns the answer to the last form."""
        page = self.open("GET", address)
        assert page.status_code == 200, page.text
        found = re.search(rf'href="([^"]+/broker/{provider}/login[^"]*)"', page.text)
        assert found is not None, page.text
        return self.at_provider(self.open("GET", str(page.url.join(html.unescape(found[1])))), name, password)

    def at_provider(self, page: httpx.Response, name: str, password: str = PASSWORD) -> httpx.Response:
        """Log in on the page of another provider, and come back. With SAML, pages send forms by themselves."""
        page = self.carried(page)
        if 'name="password"' in page.text:
            page = self.send(page, username=name, password=password)
        return self.carried(page)

    def carried(self, page: httpx.Response) -> httpx.Response:
        """Send the forms of SAML as long as there are some."""
        while page.status_code == 200 and re.search(r'name="SAML(Request|Response)"', page.text, re.IGNORECASE):
            page = self.send(page)
        return page

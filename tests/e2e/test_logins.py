"""A person's account in the local environment, in Chromium: password, second factor, Portal, and the end of it."""

from __future__ import annotations

import json
import secrets
import struct
import time
from collections.abc import Iterator
from hashlib import sha1
from hmac import digest
from typing import Any

import httpx
import pytest

from local.toolchain import packages
from service_images.portal.tests.chromium import Chromium, chromium
from tests.e2e.conftest import forge
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.drill("logins"), pytest.mark.timeout(900)]
PASSWORD = "a long sentence that only Ada knows"
STEP_S = 30
"""Seconds for which a code of a second factor is valid (RFC 6238)."""


class Person:
    """Somebody with a browser and an authenticator program."""

    def __init__(self, browser: Chromium, tenant: str, *role: str) -> None:
        self.browser, self.email = browser, f"ada-{secrets.token_hex(2)}@example.com"
        self.made = forge_person("add", self.email, "--tenant", tenant, *role)
        self._secret, self._step = b"", 0

    def opens_the_login(self) -> None:
        """Open the address that `forge person add` has shown."""
        self.browser.open(self.made["address"])

    def logs_in(self, password: str) -> None:
        """Fill in Keycloak's login form."""
        self.browser.submit("#kc-form-login", username=self.email, password=password)

    def sets_up_the_account(self) -> None:
        """Log in for the first time, up to the Portal."""
        self.opens_the_login()
        self.logs_in(self.made["one_time_password"])
        self.completes_the_account()
        self.is_at("mine")

    def completes_the_account(self, password: str = PASSWORD) -> None:
        """Fill in what Keycloak asks at the first login, until the Portal appears."""
        for _ in range(5):
            self.browser.becomes("document.readyState === 'complete'")
            if self.shows("#kc-passwd-update-form"):
                self.browser.submit(
                    "#kc-passwd-update-form", **{"password-new": password, "password-confirm": password}
                )
            elif self.shows("#kc-totp-settings-form"):
                # The hidden field holds the text whose Base32 the person sees.
                self._secret = str(self.browser.evaluate("document.querySelector('#totpSecret').value")).encode()
                self.browser.submit("#kc-totp-settings-form", totp=self.code(), userLabel="telephone")
            elif self.shows("#kc-update-profile-form"):
                self.browser.submit("#kc-update-profile-form", firstName="Ada", lastName="Lovelace")
            else:
                return

    def enters_a_code(self) -> None:
        """Enter the next code, since each one is valid once only."""
        self.browser.submit("#kc-otp-login-form", otp=self.code())

    def code(self) -> str:
        """The authenticator program's code. Waits for the next one if the present one is used."""
        until(lambda: time.time() // STEP_S > self._step, 2 * STEP_S)
        self._step = int(time.time()) // STEP_S
        found = digest(self._secret, struct.pack(">Q", self._step), sha1)
        (number,) = struct.unpack_from(">I", found, found[-1] & 15)
        return f"{(number & 0x7FFFFFFF) % 1_000_000:06d}"

    def shows(self, element: str) -> bool:
        """Whether the page has an element."""
        return self.browser.evaluate(f"!!document.querySelector({json.dumps(element)})")

    def is_at(self, page: str) -> None:
        """Wait until the browser has arrived at a page of the Portal."""
        path = json.dumps(f"/portal/{page}")
        self.browser.becomes(f"document.readyState === 'complete' && location.pathname === {path}")

    def reads(self) -> str:
        """Text of the page."""
        return self.browser.evaluate("document.body.innerText")


def forge_person(*arguments: str) -> Any:
    return json.loads(forge("person", *arguments, "--output", "json").stdout)


def account(email: str) -> dict[str, Any] | None:
    return next((one for one in forge_person("list") if one["email"] == email), None)


@pytest.fixture
def browser(tmp_path: Any) -> Iterator[Chromium]:
    packages.install({"chromium": packages.OF_TESTS["chromium"]})
    with chromium(tmp_path / "profile") as made:
        yield made


@pytest.fixture
def tenant(operator: httpx.Client) -> Iterator[str]:
    name = f"people-{secrets.token_hex(3)}"
    operator.post("/v1/tenants", json={"id": name}).raise_for_status()
    yield name
    operator.delete(f"/v1/tenants/{name}").raise_for_status()


def test_a_new_person_sets_up_the_account_and_works_in_the_portal_until_removed(browser: Chromium, tenant: str) -> None:
    ada = Person(browser, tenant, "--role", "admin")
    ada.sets_up_the_account()
    assert tenant in ada.reads()
    found = account(ada.email)
    assert found and found["second_factor"] and found["enabled"]

    forge("person", "remove", ada.email, "--yes")
    assert account(ada.email) is None
    browser.call("Page.reload")
    ada.is_at("sign-in")
    assert "Your session has ended" in ada.reads()


def test_a_repetition_leaves_the_account_as_it_is(browser: Chromium, tenant: str) -> None:
    ada = Person(browser, tenant)
    again = forge_person("add", ada.email, "--tenant", tenant, "--role", "editor")
    assert "one_time_password" not in again
    ada.opens_the_login()
    ada.logs_in(ada.made["one_time_password"])
    assert ada.shows("#kc-passwd-update-form") or ada.shows("#kc-totp-settings-form"), ada.reads()
    forge("person", "remove", ada.email, "--yes")


def test_a_login_that_has_ended_everywhere_takes_password_and_code(browser: Chromium, tenant: str) -> None:
    ada = Person(browser, tenant)
    ada.sets_up_the_account()
    browser.submit("form.leave")
    ada.is_at("sign-in")
    # The login at Keycloak goes on: the Portal lets the same browser in again.
    ada.opens_the_login()
    ada.is_at("mine")
    browser.submit("form.leave")
    ada.is_at("sign-in")

    browser.open(browser.evaluate("document.querySelector('a[href=\"/v1/login/end\"]').href"))
    browser.submit("form")  # Keycloak asks whether the person wants it
    ada.opens_the_login()
    ada.logs_in(PASSWORD)
    ada.enters_a_code()
    ada.is_at("mine")
    forge("person", "remove", ada.email, "--yes")


def test_a_lost_telephone_and_password_are_replaced_and_sessions_end(browser: Chromium, tenant: str) -> None:
    ada = Person(browser, tenant)
    ada.sets_up_the_account()
    renewed = forge_person("password", ada.email, "--second-factor", "--yes")["one_time_password"]
    found = account(ada.email)
    assert found and not found["second_factor"]
    ada.opens_the_login()
    ada.logs_in(PASSWORD)
    assert ada.shows("#kc-form-login"), ada.reads()
    ada.logs_in(renewed)
    ada.completes_the_account("another sentence, since old ones are refused")
    ada.is_at("mine")
    found = account(ada.email)
    assert found and found["second_factor"], "a login without one would be weaker than before the loss"
    forge("person", "remove", ada.email, "--yes")

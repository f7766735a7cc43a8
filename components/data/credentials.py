"""The logins of a data component: those that it was given, and those that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

from components.base import PlatformComponent
from components.config.problems import Problem
from components.inputs import InputError, LoginArgs, Server
from components.security.logins import Logins


class Credentials:
    """Secrets and passwords by login."""

    def __init__(
        self,
        parent: PlatformComponent,
        inputs: Server,
        systems: Mapping[str, Sequence[str]],
        *,
        passwords: Sequence[str] = (),
        given: Sequence[str] = (),
    ) -> None:
        """`systems`: what each login has a password for. The server itself needs to know those of `passwords`. Logins
        of `given` belong to another component, and so cannot be made here.

        Raises InputError for a login whose password is missing.
        """
        known = {login: inputs.logins[login] for login in systems if login in inputs.logins}
        problems = [
            Problem(f"logins.{login}", "(missing)", "required: another component's login", "pass its credentials")
            for login in given
            if login not in known
        ]
        problems += [
            Problem(
                f"logins.{login}.passwords.{system}",
                "(missing)",
                "required: the server keeps a list of its users",
                "pass the credentials of Logins, or leave the login out",
            )
            for login in passwords
            if login in known
            for system in systems[login]
            if system not in known[login].passwords
        ]
        if problems:
            raise InputError(type(parent).__name__, parent.name, problems)
        missing = {login: list(found) for login, found in systems.items() if login not in known}
        self.logins: dict[str, LoginArgs] = {
            name: {"secret_name": login.secret_name, "passwords": login.passwords, "version": login.version}
            for name, login in known.items()
        }
        if missing:
            made = Logins(
                f"{parent.name}-logins",
                {
                    "namespace": inputs.namespace,
                    "logins": missing,
                    "generation": inputs.credentials_generation,
                    "prefix": f"{inputs.kubernetes_name}-login",
                },
                parent.child(),
            )
            self.logins |= made.credentials

    def secret(self, login: str) -> pulumi.Output[str]:
        """Name of the Secret of a login."""
        return pulumi.Output.from_input(self.logins[login]["secret_name"])

    def password(self, login: str, system: str) -> pulumi.Output[str]:
        """A password; a secret output."""
        return pulumi.Output.secret(self.logins[login].get("passwords", {})[system])

    def version(self, login: str) -> pulumi.Output[str]:
        """Changes with a login's passwords."""
        return pulumi.Output.from_input(self.logins[login].get("version", ""))

    def mounts(self, *logins: str) -> dict[str, pulumi.Input[str]]:
        """Where pods find the passwords of these logins, and the Secrets with them."""
        return {f"/etc/credentials/{login}": self.secret(login) for login in logins}

    def versions(self, *logins: str) -> tuple[pulumi.Input[str], ...]:
        """Of each of these logins."""
        return tuple(self.version(login) for login in logins)

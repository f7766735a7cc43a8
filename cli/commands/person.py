"""`forge person`: manages people's accounts in Keycloak, and their roles in tenants."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import typer

from cli import api_text, gateway, output
from cli.options import Format, Output, Stack, Yes
from components.config.providers import TenantRole
from local.errors import LocalError

app = typer.Typer(no_args_is_help=True, help="Accounts of people in Keycloak, and their roles in tenants.")
Email = Annotated[str, typer.Argument(help="The person's email address.")]


@app.command(name="list")
def show_all(stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """List all accounts of the environment's Keycloak."""
    from cli import accounts

    with accounts.opened(stack_name) as known:
        found = [{name: value for name, value in vars(one).items() if name != "id"} for one in known.all()]
    api_text.people([{**one, "groups": list(one["groups"])} for one in found], output_format)


@app.command()
def add(
    email: Email,
    tenant: Annotated[str, typer.Option("--tenant", help="ID of the tenant that the person belongs to.")],
    role: Annotated[
        TenantRole, typer.Option("--role", help="What the person may do in the tenant.")
    ] = TenantRole.MEMBER,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Give a person an account and a role in a tenant. A new account's one-time password is shown only this once.

    Run again with another tenant or role, it adds the role and leaves the password as it is.
    """
    from cli import accounts

    with accounts.opened(stack_name) as known, gateway.connect(stack_name) as client:
        user = _user(client, tenant, email)
        gateway.ask(client, "PUT", gateway.path("tenants", tenant, "users", user["id"], "roles", role.value))
        password = "" if known.find(email) else known.make(email)
        made: dict[str, Any] = {"email": user["email"], "tenant": tenant, "role": role.value}
        made["address"] = f"{str(client.base_url).rstrip('/').removesuffix('/v1')}/v1/login?tenant={tenant}&arrive=true"
    api_text.record(made | ({"one_time_password": password} if password else {}), output_format)


@app.command()
def password(
    email: Email,
    second_factor: Annotated[
        bool, typer.Option("--second-factor", help="Remove the person's second factor, too, as for a lost telephone.")
    ] = False,
    stack_name: Stack = "local",
    yes: Yes = False,
    output_format: Output = Format.TEXT,
) -> None:
    """Replace a person's password with a one-time password. It is shown only this once; all sessions end."""
    from cli import accounts

    output.confirm(f"Replace the password of {email}? The person's sessions end.", yes)
    with accounts.opened(stack_name) as known:
        account = known.find(email) or _nobody(email)
        if second_factor:
            known.forget_second_factor(account)
        made = known.renew(account)
    api_text.record({"email": account.email, "one_time_password": made}, output_format)


@app.command()
def remove(email: Email, stack_name: Stack = "local", yes: Yes = False) -> None:
    """Remove a person's account, and the person from all tenants. Their keys are refused within a second."""
    from cli import accounts

    output.confirm(f"Remove {email} from {stack_name}? The person's keys and sessions end.", yes)
    with accounts.opened(stack_name) as known, gateway.connect(stack_name) as client:
        left: list[str] = []
        for tenant in [one["id"] for one in gateway.ask(client, "GET", "tenants")]:
            for user in _users(client, tenant, email):
                gateway.ask(client, "DELETE", gateway.path("tenants", tenant, "users", user["id"]))
                left.append(tenant)
        account = known.find(email)
        if account is not None:
            known.remove(account)
    if account is None and not left:
        _nobody(email)
    if account is not None:
        output.line(f"the account of {email} is removed")
    if left:
        output.line(f"{email} is no user of {', '.join(left)} any more")


def _user(client: httpx.Client, tenant: str, email: str) -> dict[str, Any]:
    """The tenant's user with an address, which is made if there is none. Raises LocalError."""
    try:
        return gateway.ask(client, "POST", gateway.path("tenants", tenant, "users"), json={"email": email})
    except gateway.Refused as refused:
        found = _users(client, tenant, email) if refused.status == 409 else []
        if not found:
            raise
        return found[0]


def _users(client: httpx.Client, tenant: str, email: str) -> list[dict[str, Any]]:
    found = gateway.ask(client, "GET", gateway.path("tenants", tenant, "users"))
    return [one for one in found if one["email"] == email.lower()]


def _nobody(email: str) -> Any:
    raise LocalError(f"nobody has the address {email}", fix="see `forge person list`")

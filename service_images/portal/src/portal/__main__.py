"""Entry point of the Portal."""

from __future__ import annotations

from kit import service
from kit.errors import ApiError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from portal.api import operations
from portal.gateway import Gateway
from portal.sessions import Sessions
from portal.settings import PortalSettings
from portal.view import Views


def create(settings: PortalSettings) -> Starlette:
    """The application. Raises ValueError without a secret for sessions."""
    gateway = Gateway(settings)
    views = Views(settings, gateway, Sessions(settings.secret("session_secret")))
    made = service.create("Portal", operations(views), close=[gateway.close, views.servers.close])
    for kind in (ApiError, HTTPException, Exception):
        made.add_exception_handler(kind, views.on_error)
    return made


def main() -> int:
    """Serve."""
    return service.main(PortalSettings(), create)


if __name__ == "__main__":
    raise SystemExit(main())

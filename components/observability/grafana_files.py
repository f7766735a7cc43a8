"""Grafana's configuration and provisioning. Pure data."""

from __future__ import annotations

import configparser
import io
from collections.abc import Mapping, Sequence
from typing import Any

from components import secret_files
from components.config.grafana import PART, PATH, PORT
from components.config.security import REALM

ADMIN = "grafana"
"""The one user with a password, for the day on which Keycloak is away."""
PASSWORD, KEY, CLIENT = "password", "key", "client"
"""Files with this user's password, the key that encrypts secrets in Grafana's database, and the client's secret."""
AUTHORITY = "authority.crt"
FOLDER = f"/etc/{PART}"
PROVISIONING, DASHBOARDS = "/etc/provisioning", "/etc/dashboards"


def role(viewers: Sequence[str]) -> str:
    """JMESPath expression for a person's role: operators edit, viewers look, and nobody else gets in.

    Nobody is Admin: what an Admin could change, such as data sources, is code.
    """
    groups = "".join(f" || contains(not_null(groups, `[]`), '{group}') && 'Viewer'" for group in viewers)
    return f"contains(not_null(roles, `[]`), 'operator') && 'Editor'{groups}"


def settings(url: str, keycloak: str, viewers: Sequence[str], home: str) -> str:
    """Content of grafana.ini.

    `url`: URL of the platform for browsers; `keycloak`: URL of Keycloak inside the cluster; `home`: file of the
    dashboard that people see first.
    """
    realm = f"/realms/{REALM}/protocol/openid-connect"
    sections: dict[str, dict[str, object]] = {
        "server": {"http_port": PORT, "root_url": url + PATH, "serve_from_sub_path": True},
        "database": {"type": "sqlite3", "wal": True},
        "security": {
            "admin_user": ADMIN,
            "admin_password": _file(PASSWORD),
            "secret_key": _file(KEY),
            "cookie_secure": True,
            "cookie_samesite": "lax",
            "content_security_policy": True,
            "disable_gravatar": True,
        },
        "users": {"allow_sign_up": False, "allow_org_create": False},
        "auth": {
            "disable_login_form": True,
            "signout_redirect_url": f"{url}{realm}/logout",
        },
        "auth.anonymous": {"enabled": False},
        "auth.generic_oauth": {
            "enabled": True,
            "name": "Keycloak",
            "auto_login": True,
            "allow_sign_up": True,
            "client_id": PART,
            "client_secret": _file(CLIENT),
            "scopes": "openid profile email",
            "use_pkce": True,
            "auth_url": f"{url}{realm}/auth",
            "token_url": f"{keycloak}{realm}/token",
            "api_url": f"{keycloak}{realm}/userinfo",
            "tls_client_ca": f"{FOLDER}/{AUTHORITY}",
            "login_attribute_path": "preferred_username",
            "role_attribute_path": role(viewers),
            "role_attribute_strict": True,
            "allow_assign_grafana_admin": False,
        },
        # Alertmanager raises the alerts. Whatever asks the internet is off.
        "unified_alerting": {"enabled": False},
        "analytics": {
            "reporting_enabled": False,
            "check_for_updates": False,
            "check_for_plugin_updates": False,
            "feedback_links_enabled": False,
        },
        "news": {"news_feed_enabled": False},
        "plugins": {"plugin_admin_enabled": False, "preinstall_disabled": True},
        "snapshots": {"external_enabled": False},
        "public_dashboards": {"enabled": False},
        # The gateway would show them to everybody.
        "metrics": {"enabled": False},
        # The gateway passes no WebSockets.
        "live": {"max_connections": 0},
        "log": {"mode": "console"},
        "log.console": {"format": "json"},
        "dashboards": {"default_home_dashboard_path": home},
    }
    # Values contain "%" and ":" as they are.
    written = configparser.RawConfigParser()
    written.read_dict({section: {k: _text(v) for k, v in values.items()} for section, values in sections.items()})
    text = io.StringIO()
    written.write(text)
    return text.getvalue()


def _file(name: str) -> str:
    return f"$__file{{{secret_files.path(name)}}}"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def sources(prometheus: str, interval_s: int, jaeger: str, loki: str, tenant: str) -> dict[str, Any]:
    """Provisioning of data sources. An empty URL of Jaeger or Loki: there is none. `tenant`: Loki's; may be empty."""
    found: list[dict[str, Any]] = [
        {
            **_source("Prometheus", "prometheus", prometheus),
            "isDefault": True,
            "jsonData": {"httpMethod": "POST", "timeInterval": f"{interval_s}s"},
        }
    ]
    if jaeger:
        found.append(_source("Jaeger", "jaeger", jaeger))
    if loki:
        headed = {
            "jsonData": {"httpHeaderName1": "X-Scope-OrgID"},
            "secureJsonData": {"httpHeaderValue1": tenant},
        }
        found.append({**_source("Loki", "loki", loki), **(headed if tenant else {})})
    return {"apiVersion": 1, "prune": True, "datasources": found}


def _source(name: str, kind: str, url: str) -> dict[str, Any]:
    return {"name": name, "uid": kind, "type": kind, "access": "proxy", "url": url, "editable": False}


def providers(folders: Mapping[str, str]) -> dict[str, Any]:
    """Provisioning of dashboards. `folders`: path of the files by the name of the folder in Grafana."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": name,
                "folder": name,
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "options": {"path": path},
            }
            for name, path in folders.items()
        ],
    }

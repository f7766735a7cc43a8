"""PostgreSQL: which login owns, connects to and reads which database.

The setup task makes logins, databases and grants from its declaration. Semantics: a database's owner may do everything
in it; PUBLIC may not connect; change data capture may read the outbox tables; an owner whose logins the secret store
issues does not log in itself (service_images/postgres, provision.py).
"""

from __future__ import annotations

from typing import Any

from components.config.platform import PlatformConfig
from policies.access import uses
from policies.access.model import Access, Layer
from policies.access.objects import Rendered, variable

CAPTURE, REGISTRY, VECTORS, SUPERUSER = "capture", "registry", "vectors", "postgres"
OWN, CONNECT, READ, REPLICATE = "own", "connect to", "read", "replicate"
LOG_IN, ISSUE = "log in with", "issue logins for"
_PASSWORD = "a password that a Secret holds"


def _declared(rendered: Rendered) -> tuple[dict[str, Any], str]:
    found, title = variable(rendered, "postgres-provision", "PROVISION")
    return found or {}, title


def granted(rendered: Rendered) -> dict[Access, str]:
    """All that the declaration gives."""
    asked, title = _declared(rendered)
    found, capture = dict[Access, str](), asked.get("capture", "")
    for database in asked.get("databases", ()):
        name, by = database["name"], f"{title}, database {database['name']}"
        found[Access(database["login"], OWN, f"database {name}")] = by
        found[Access(database["login"], CONNECT, f"database {name}")] = by
        if database.get("issued"):
            found[Access(asked["issuer"], ISSUE, f"database {name}")] = by
        else:
            found[Access(database["login"], LOG_IN, _PASSWORD)] = by
        if capture and database["outbox"]:
            found[Access(capture, CONNECT, f"database {name}")] = by
            found[Access(capture, READ, f"events.outbox of {name}")] = by
    if capture:
        found[Access(capture, REPLICATE, "the log")] = f"{title}, capture"
    return found


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """Each service with a database owns it; change data capture reads outboxes; the schema registry has a database."""
    found, data = dict[Access, str](), config.data
    if data.postgres is None:
        return found
    owners = {name: f"record of {name}: database" for name, one in uses.records(config).items() if one.database}
    owners[REGISTRY] = "the schema registry keeps schemas there"
    if config.security.keycloak:
        owners[uses.KEYCLOAK] = "Keycloak keeps its users there"
    if data.vector_database and not any(one.collections for one in uses.records(config).values()):
        owners[VECTORS] = "data.vectorDatabase: no service owns the collections"
    for name, reason in owners.items():
        found[Access(name, OWN, f"database {name}")] = reason
        found[Access(name, CONNECT, f"database {name}")] = reason
        if name in uses.issued(config):
            found[Access(uses.STORE, ISSUE, f"database {name}")] = f"{reason}; security.secretStore"
        else:
            found[Access(name, LOG_IN, _PASSWORD)] = reason
    if data.change_data_capture:
        found[Access(CAPTURE, REPLICATE, "the log")] = "data.changeDataCapture"
        for name, record in uses.records(config).items():
            if record.database and record.outbox:
                found[Access(CAPTURE, CONNECT, f"database {name}")] = f"record of {name}: outbox"
                found[Access(CAPTURE, READ, f"events.outbox of {name}")] = f"record of {name}: outbox"
    return found


def _holder(access: Access, rendered: Rendered) -> str:
    return _declared(rendered)[1] or "the setup task of PostgreSQL"


LAYER = Layer(
    "postgres",
    "PostgreSQL",
    "Which login owns, connects to and reads which database, as the setup task receives them; its own test shows that "
    "it makes these grants and no others.",
    granted,
    intended,
    _holder,
)

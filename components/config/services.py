"""The bundled AI services: a section for each record."""

from __future__ import annotations

from typing import Any

from pydantic import create_model

from components.config.base import Change, Section, setting
from components.services.record import Bundled
from components.services.registry import SERVICES

_RECORDS = sorted(SERVICES.values(), key=lambda record: record.position)
_FIELDS: dict[str, Any] = {
    record.name: (record.section, setting(Change.SAFE, record.about, default=record.section()))
    if record.always
    else (record.section | None, setting(Change.DISRUPTIVE, record.about, default=None))
    for record in _RECORDS
}


class Services(create_model("_Services", __base__=Section, **_FIELDS)):
    """The bundled AI services. One that is not named is not made."""

    @property
    def there(self) -> dict[str, Bundled]:
        """The sections of the services that there are, by name."""
        found = {name: getattr(self, name) for name in _FIELDS}
        return {name: section for name, section in found.items() if section is not None}

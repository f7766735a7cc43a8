"""The services section of the configuration, with one subsection per service record."""

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
    """Bundled AI services. A service without a section is not deployed."""

    @property
    def there(self) -> dict[str, Bundled]:
        """Sections of the enabled services by name."""
        found = {name: getattr(self, name) for name in _FIELDS}
        return {name: section for name, section in found.items() if section is not None}

"""The services section of the configuration: one subsection per service record, and the user's own services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import create_model

from components.config.base import Change, Section, setting
from components.config.custom import Service, ServiceName
from components.config.problems import Location
from components.services import custom
from components.services.record import Bundled, ServiceRecord
from components.services.registry import SERVICES

_RECORDS = sorted(SERVICES.values(), key=lambda record: record.position)
_FIELDS: dict[str, Any] = {
    record.name: (record.section, setting(Change.SAFE, record.about, default=record.section()))
    if record.always
    else (record.section | None, setting(Change.DISRUPTIVE, record.about, default=None))
    for record in _RECORDS
}


class Services(create_model("_Services", __base__=Section, **_FIELDS)):
    """AI services. A bundled service without a section is not deployed."""

    custom: dict[ServiceName, Service] = setting(
        Change.DISRUPTIVE, "Your own services by name", default={}, max_length=50
    )

    @property
    def there(self) -> dict[str, Bundled]:
        """Sections of the enabled services by name, the bundled services first."""
        found = {name: getattr(self, name) for name in _FIELDS}
        bundled: dict[str, Bundled] = {name: section for name, section in found.items() if section is not None}
        # Pulumi returns the entries of an object in any order.
        return bundled | {name: self.custom[name] for name in sorted(self.custom) if name not in _FIELDS}

    @property
    def records(self) -> Mapping[str, ServiceRecord]:
        """Records of the enabled services by name, in the same order as the sections."""
        bundled = {name: SERVICES[name] for name in self.there if name in SERVICES}
        keeper = next((record.name for record in bundled.values() if record.keeps_keys), "")
        own = {
            name: custom.record(name, section, keeper)
            for name, section in sorted(self.custom.items())
            if name not in bundled
        }
        return bundled | own

    def location(self, name: str) -> Location:
        """Location of a service's section in the configuration."""
        return ("services", name) if name in _FIELDS else ("services", "custom", name)

"""The Pulumi program of an environment: one configuration in, one platform out."""

from __future__ import annotations

import pulumi

from components import event_schemas, former_names
from components.catalogue import versions
from components.cluster.detection import ClusterConflict
from components.config import names
from components.config.parse import parse
from components.config.problems import ConfigError
from components.delivery.images import ImageError
from components.platform import Platform


def deploy() -> None:
    """Make the platform that the stack's configuration describes. Raises RunError with every mistake in it."""
    try:
        config = parse(pulumi.Config("cogniforge").get_object("platform") or {})
        environment = pulumi.get_stack()
        names.check(environment)
        former_names.keep(environment, config.environment)
        event_schemas.refuse()
        platform = Platform(config, name=environment)
    except (ConfigError, ImageError, ClusterConflict, event_schemas.IncompatibleSchema) as error:
        raise pulumi.RunError(str(error)) from None

    pulumi.export("url", platform.url)
    pulumi.export("apiKey", platform.key.key)
    pulumi.export("authority", platform.certificate.authority)
    pulumi.export("namespace", config.cluster.namespace)
    pulumi.export("parts", platform.parts)
    # What `forge upgrade-check` compares the next definition with; nothing in it is secret.
    definition = {"config": config.model_dump(mode="json", by_alias=True), "versions": versions()}
    schemas = event_schemas.current() | event_schemas.own(config.around.records.values())
    pulumi.export("definition", {**definition, "schemas": schemas})

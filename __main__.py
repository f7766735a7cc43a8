"""The Pulumi program: one configuration in, one platform out."""

import pulumi

from components import event_schemas
from components.catalogue import versions
from components.cluster.detection import ClusterConflict
from components.config.parse import parse
from components.config.problems import ConfigError
from components.delivery.images import ImageError
from components.platform import Platform

try:
    config = parse(pulumi.Config("cogniforge").get_object("platform") or {})
    if config.environment != pulumi.get_stack().split("-")[0]:
        raise pulumi.RunError(
            f'the stack is "{pulumi.get_stack()}", but its configuration says environment: {config.environment}; '
            "a stack is named after its environment (local, or local-<something>)"
        )
    event_schemas.refuse()
    platform = Platform(config)
except (ConfigError, ImageError, ClusterConflict, event_schemas.IncompatibleSchema) as error:
    raise pulumi.RunError(str(error)) from None

pulumi.export("url", platform.url)
pulumi.export("apiKey", platform.key.key)
pulumi.export("authority", platform.certificate.authority)
pulumi.export("namespace", config.cluster.namespace)
pulumi.export("parts", platform.parts)
# What `forge upgrade-check` compares the next definition with; nothing in it is secret.
definition = {"config": config.model_dump(mode="json", by_alias=True), "versions": versions()}
pulumi.export("definition", {**definition, "schemas": event_schemas.current()})

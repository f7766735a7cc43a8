"""The Pulumi program: one configuration in, one platform out."""

from components.program import deploy

deploy()

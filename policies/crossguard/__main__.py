"""The policy pack that Pulumi starts."""

from policies.crossguard.pack import start

start()

"""Entry point of the policy pack."""

from policies.crossguard.pack import start

start()

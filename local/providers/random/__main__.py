"""`pulumi-resource-random`."""

from local.providers.random.provider import Random
from local.providers.server import serve

serve(Random())

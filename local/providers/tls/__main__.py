"""`pulumi-resource-tls`."""

from local.providers.server import serve
from local.providers.tls.provider import Tls

serve(Tls())

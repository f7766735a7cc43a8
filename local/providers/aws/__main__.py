"""`pulumi-resource-aws`."""

from local.providers.aws.provider import Aws
from local.providers.server import serve

serve(Aws())

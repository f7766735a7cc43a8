"""Pulumi plugin of the component library: components with plain inputs, for programs in any language."""

import sys

from pulumi.provider import main

from components.base import PART_OF
from components.catalogue import platform_version
from components.plugin.offered import OFFERED
from components.plugin.provider import LibraryProvider


def serve() -> None:
    """Serve the Pulumi engine until it ends this process."""
    main(LibraryProvider(list(OFFERED), PART_OF, platform_version()), sys.argv[1:])


if __name__ == "__main__":
    serve()

"""What the deployment knows about its images and policies. The component renders it into the settings."""

from __future__ import annotations

from kit.rest import Model


class RunImage(Model):
    """An image of the platform, or of a user's own service."""

    name: str
    version: str = ""
    """Version in the lock file; empty for a user's own image."""
    reference: str
    """Reference by digest."""
    own: bool = True
    """Whether the platform builds and signs it."""

    @property
    def digest(self) -> str:
        """The digest; empty if the reference has none."""
        return self.reference.partition("@")[2]


class Policy(Model):
    """A policy that a part of the environment enforces."""

    title: str
    in_force: bool
    about: str


class Evidence(Model):
    """Images and policies of a deployment."""

    platform: str
    """Version of the platform."""
    source: str
    """Source of the images: local-build or registry."""
    images: tuple[RunImage, ...] = ()
    policies: tuple[Policy, ...] = ()

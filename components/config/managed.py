"""Managed AWS services that replace the platform's own data servers."""

from __future__ import annotations

from typing import Annotated

from components.config.base import Change, Section, matching, setting


class Rds(Section):
    """PostgreSQL on Amazon RDS. Backup and restore are then those of RDS."""

    instance_class: Annotated[
        str, matching(r"db\.[a-z0-9-]+\.[a-z0-9]+", "an RDS instance class", 'write it like "db.r7g.xlarge"')
    ] = setting(Change.DISRUPTIVE, "RDS instance class of the server")
    standby: bool = setting(
        Change.DISRUPTIVE, "Whether a standby in another zone takes over after a failure (Multi-AZ)", default=True
    )


class Msk(Section):
    """Kafka on Amazon MSK, in KRaft mode, with one broker per zone."""

    instance_type: Annotated[
        str,
        matching(r"(kafka|express)\.[a-z0-9-]+\.[a-z0-9]+", "an MSK instance type", 'write it like "kafka.m7g.large"'),
    ] = setting(Change.DISRUPTIVE, "MSK instance type of each broker")


class S3(Section):
    """Buckets in Amazon S3. Pods access them with their own IAM roles."""

    keep_versions_days: int = setting(
        Change.SAFE, "Days that overwritten or deleted objects can be restored", default=30, ge=1, le=3650
    )

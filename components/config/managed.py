"""Data parts that AWS runs in place of pods."""

from __future__ import annotations

from typing import Annotated

from components.config.base import Change, Section, matching, setting


class Rds(Section):
    """PostgreSQL on Amazon RDS; backups and restores are then RDS' own."""

    instance_class: Annotated[
        str, matching(r"db\.[a-z0-9-]+\.[a-z0-9]+", "an RDS instance class", 'write it like "db.r7g.xlarge"')
    ] = setting(Change.DISRUPTIVE, "Instance class of the server")
    standby: bool = setting(Change.DISRUPTIVE, "A standby in another zone takes over (Multi-AZ)", default=True)


class Msk(Section):
    """Kafka on Amazon MSK, in KRaft mode, one broker a zone."""

    instance_type: Annotated[
        str,
        matching(r"(kafka|express)\.[a-z0-9-]+\.[a-z0-9]+", "an MSK instance type", 'write it like "kafka.m7g.large"'),
    ] = setting(Change.DISRUPTIVE, "Instance type of each broker")


class S3(Section):
    """Buckets in Amazon S3, reached by the pods' own AWS roles."""

    keep_versions_days: int = setting(
        Change.SAFE, "How long what was overwritten or deleted can be had back", default=30, ge=1, le=3650
    )

"""PostgreSQL on Amazon RDS: a server with standby, backups and encryption, reachable from the cluster only."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import pulumi
import pulumi_aws as aws

from components.base import PlatformComponent
from components.cluster.aws_site import AwsSite
from components.config.base import gibibytes, quantity
from components.config.data import Postgres

PORT = 5432
VERSION = "16.10"
"""PostgreSQL version. AWS applies newer minor versions. Source: Amazon RDS for PostgreSQL release notes, 2025-09."""
FAMILY = "postgres16"


class RdsArgs(TypedDict):
    """Inputs of an RDS server."""

    site: AwsSite
    user: str
    """Login that creates databases and logins."""
    password: pulumi.Output[str]
    destroy_data: bool


class RdsResources(NamedTuple):
    """Resources of a server at RDS."""

    instance: aws.rds.Instance
    parameter_group: aws.rds.ParameterGroup
    subnet_group: aws.rds.SubnetGroup
    security_group: aws.ec2.SecurityGroup


class Rds(PlatformComponent):
    """The RDS instance with its parameter group, subnets and security group."""

    address: pulumi.Output[str]
    """DNS name. The port is 5432."""

    def __init__(self, name: str, config: Postgres, args: RdsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("data", name, {"storage": config.storage}, opts)
        assert config.rds is not None  # created only if the configuration has it
        site, keeps = args["site"], not args["destroy_data"]
        group = site.entrance(name, PORT, f"PostgreSQL of {name}", self.child())
        subnets = aws.rds.SubnetGroup(name, subnet_ids=site.subnet_ids, opts=self.child(protect=keeps))
        parameters = aws.rds.ParameterGroup(
            name,
            family=FAMILY,
            parameters=[
                {"name": key, "value": value, "apply_method": "pending-reboot"}
                for key, value in settings(config).items()
            ],
            opts=self.child(protect=keeps),
        )
        instance = aws.rds.Instance(
            name,
            identifier=name,
            engine="postgres",
            engine_version=VERSION,
            instance_class=config.rds.instance_class,
            multi_az=config.rds.standby,
            storage_type="gp3",
            allocated_storage=gibibytes(config.storage),
            # One of the certificate authorities that the connection pool trusts.
            ca_cert_identifier="rds-ca-rsa2048-g1",
            storage_encrypted=True,
            kms_key_id=site.key_arn,
            username=args["user"],
            password=args["password"],
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[group.id],
            publicly_accessible=False,
            parameter_group_name=parameters.name,
            backup_retention_period=config.backup.keep_days,
            copy_tags_to_snapshot=True,
            performance_insights_enabled=True,
            performance_insights_kms_key_id=site.key_arn,
            enabled_cloudwatch_logs_exports=["postgresql", "upgrade"],
            auto_minor_version_upgrade=True,
            allow_major_version_upgrade=False,
            deletion_protection=keeps,
            skip_final_snapshot=not keeps,
            final_snapshot_identifier=f"{name}-final" if keeps else None,
            delete_automated_backups=not keeps,
            # A changed volume size or instance class takes effect at once, not in the next maintenance window.
            apply_immediately=True,
            opts=self.child(protect=keeps, ignore_changes=["engineVersion"]),
        )
        self.resources = RdsResources(instance, parameters, subnets, group)
        self.address = instance.address
        self.finish(
            {"kind": "", "namespace": "", "name": name, "probe": "a row is written and read through the pool"},
            address=self.address,
        )


def settings(config: Postgres) -> dict[str, str]:
    """Server parameters. Those for memory are left to RDS, which derives them from the instance class."""
    return {
        "max_connections": str(config.max_connections),
        # Change data capture reads the log. A slot without a reader must not fill the volume.
        "rds.logical_replication": "1",
        "max_replication_slots": "20",
        "max_wal_senders": "20",
        "max_slot_wal_keep_size": str(max(1024, int(quantity(config.storage)) // 2**20 // 4)),
        "rds.force_ssl": "1",
        "password_encryption": "scram-sha-256",
        "log_min_duration_statement": "1000",
    }

"""Kafka on Amazon MSK: brokers in three zones, with TLS and SCRAM users for the platform's logins."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import NamedTuple, TypedDict

import pulumi
import pulumi_aws as aws

from components.base import PlatformComponent
from components.cluster import iam
from components.cluster.aws_site import AwsSite
from components.cluster.encryption_key import EncryptionKey
from components.cluster.network import nearest_retention
from components.config.base import gibibytes
from components.config.data import Kafka

PORT = 9096
"""Port for SCRAM over TLS. Source: Amazon MSK developer guide, "Port information"."""
VERSION = "3.9.x.kraft"
"""Kafka version. Source: Amazon MSK developer guide, "Supported Apache Kafka versions"."""
_LOG_DAYS = 30


class MskArgs(TypedDict):
    """Inputs of an MSK cluster."""

    site: AwsSite
    users: Mapping[str, pulumi.Output[str]]
    """Password of each user."""
    destroy_data: bool


class MskResources(NamedTuple):
    """Resources of a cluster at MSK."""

    cluster: aws.msk.Cluster
    configuration: aws.msk.Configuration
    security_group: aws.ec2.SecurityGroup


class Msk(PlatformComponent):
    """The cluster, its configuration, and its users, which MSK reads from Secrets Manager."""

    bootstrap: pulumi.Output[str]
    """host:port pairs of the brokers, separated by commas. It resolves once the users exist."""

    def __init__(self, name: str, config: Kafka, args: MskArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("data", name, {"replicas": config.replicas}, opts)
        assert config.msk is not None  # created only if the configuration has it
        site, keeps = args["site"], not args["destroy_data"]
        self._name, self._site = name, site
        group = site.entrance(name, PORT, f"Kafka of {name}", self.child())
        chosen = aws.msk.Configuration(
            name,
            kafka_versions=[VERSION],
            server_properties=properties(config),
            opts=self.child(),
        )
        logs = aws.cloudwatch.LogGroup(
            name,
            name=f"/cogniforge/{name}/brokers",
            retention_in_days=nearest_retention(_LOG_DAYS),
            kms_key_id=site.key_arn,
            opts=self.child(),
        )
        cluster = aws.msk.Cluster(
            name,
            cluster_name=name,
            kafka_version=VERSION,
            number_of_broker_nodes=config.replicas,
            broker_node_group_info={
                "instance_type": config.msk.instance_type,
                "client_subnets": site.subnet_ids,
                "security_groups": [group.id],
                "storage_info": {"ebs_storage_info": {"volume_size": gibibytes(config.storage)}},
                "connectivity_info": {"public_access": {"type": "DISABLED"}},
            },
            configuration_info={"arn": chosen.arn, "revision": chosen.latest_revision},
            client_authentication={"sasl": {"scram": True}, "unauthenticated": False},
            encryption_info={
                "encryption_at_rest_kms_key_arn": site.key_arn,
                "encryption_in_transit": {"client_broker": "TLS", "in_cluster": True},
            },
            enhanced_monitoring="PER_TOPIC_PER_BROKER",
            open_monitoring={
                "prometheus": {
                    "jmx_exporter": {"enabled_in_broker": True},
                    "node_exporter": {"enabled_in_broker": True},
                }
            },
            logging_info={"broker_logs": {"cloudwatch_logs": {"enabled": True, "log_group": logs.name}}},
            opts=self.child(protect=keeps),
        )
        self.resources = MskResources(cluster, chosen, group)
        users = self._users(cluster, args["users"])
        self.bootstrap = pulumi.Output.all(cluster.bootstrap_brokers_sasl_scram, users.id).apply(lambda found: found[0])
        self.finish(
            {"kind": "", "namespace": "", "name": name, "probe": "an event is written and read"},
            bootstrap=self.bootstrap,
        )

    def _users(
        self, cluster: aws.msk.Cluster, users: Mapping[str, pulumi.Output[str]]
    ) -> aws.msk.ScramSecretAssociation:
        """Secrets with the users' passwords. MSK requires the name prefix AmazonMSK_ and a customer managed key."""
        key = EncryptionKey(
            f"{self._name}-users",
            {"purpose": f"passwords of {self._name}", "account_id": self._site.account_id},
            self.child(),
        )
        arns: list[pulumi.Output[str]] = []
        for user, password in sorted(users.items()):
            secret = aws.secretsmanager.Secret(
                f"{self._name}-{user}",
                name=f"AmazonMSK_{self._name}_{user}",
                description=f"{user} at {self._name}",
                kms_key_id=key.arn,
                # Delete without a recovery window, so that a recreated environment can use the name again.
                recovery_window_in_days=0,
                opts=self.child(),
            )
            version = aws.secretsmanager.SecretVersion(
                f"{self._name}-{user}",
                secret_id=secret.id,
                secret_string=pulumi.Output.secret(password.apply(functools.partial(_login, user))),
                opts=self.child(),
            )
            aws.secretsmanager.SecretPolicy(
                f"{self._name}-{user}",
                secret_arn=secret.arn,
                policy=pulumi.Output.all(secret.arn, self._site.account_id).apply(lambda found: readable(*found)),
                opts=self.child(),
            )
            arns.append(pulumi.Output.all(secret.arn, version.id).apply(lambda found: found[0]))
        return aws.msk.ScramSecretAssociation(
            self._name, cluster_arn=cluster.arn, secret_arn_lists=arns, opts=self.child()
        )


def _login(user: str, password: str) -> str:
    return json.dumps({"username": user, "password": password})


def readable(arn: str, account: str) -> str:
    """Resource policy of a secret: MSK may read it, on behalf of this account. Operators use IAM instead."""
    allowed = iam.statement(["secretsmanager:GetSecretValue"], [arn])
    allowed = {**allowed, "Condition": {"StringEquals": {"aws:SourceAccount": account}}}
    return iam.document([{**allowed, "Principal": {"Service": "kafka.amazonaws.com"}}])


def properties(config: Kafka) -> str:
    """Configuration of the brokers. ACLs grant all rights; see `tasks.kafka`."""
    lines = {
        "auto.create.topics.enable": "false",
        "default.replication.factor": "3",
        "min.insync.replicas": "2",
        "num.partitions": str(config.partitions),
        "unclean.leader.election.enable": "false",
        "log.retention.hours": str(config.retention_hours),
        "allow.everyone.if.no.acl.found": "true",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())

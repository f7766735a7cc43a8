"""Components that the plugin offers, each with the model that checks its inputs."""

from __future__ import annotations

from components.base import PlatformComponent
from components.cluster.encryption_key import EncryptionKey, EncryptionKeyInputs
from components.cluster.namespace import PlatformNamespace, PlatformNamespaceInputs
from components.data.cache import Cache, CacheInputs
from components.data.change_data_capture import ChangeDataCapture, ChangeDataCaptureInputs
from components.data.kafka_cluster import KafkaCluster
from components.data.kafka_inputs import KafkaInputs
from components.data.nats import Nats
from components.data.nats_inputs import NatsInputs
from components.data.object_store import ObjectStore, ObjectStoreInputs
from components.data.postgres_cluster import PostgresCluster
from components.data.postgres_inputs import PostgresInputs
from components.data.schema_registry import SchemaRegistry, SchemaRegistryInputs
from components.data.vector_database import VectorDatabase, VectorDatabaseInputs
from components.inputs import Inputs
from components.security.api_key import ApiKey, ApiKeyInputs
from components.security.certificate import Certificate, CertificateInputs
from components.security.logins import Logins, LoginsInputs

OFFERED: dict[type[PlatformComponent], type[Inputs]] = {
    ApiKey: ApiKeyInputs,
    Cache: CacheInputs,
    Certificate: CertificateInputs,
    ChangeDataCapture: ChangeDataCaptureInputs,
    EncryptionKey: EncryptionKeyInputs,
    KafkaCluster: KafkaInputs,
    Logins: LoginsInputs,
    Nats: NatsInputs,
    ObjectStore: ObjectStoreInputs,
    PlatformNamespace: PlatformNamespaceInputs,
    PostgresCluster: PostgresInputs,
    SchemaRegistry: SchemaRegistryInputs,
    VectorDatabase: VectorDatabaseInputs,
}

_WHOLE = "takes the configuration of a whole platform"
_PART = "part of another component, which takes its inputs"
_NOT_YET = "takes Python objects"
INTERNAL: dict[str, str] = {
    "AdmissionPolicy": _NOT_YET,
    "AiService": _NOT_YET,
    "AwsFoundation": _WHOLE,
    "DataLayer": _WHOLE,
    "DataServer": _PART,
    "DataTask": _PART,
    "EksCluster": _NOT_YET,
    "EndToEndCheck": _NOT_YET,
    "ExistingCluster": "gives a provider, which a program makes of its own kubeconfig",
    "Gateway": _NOT_YET,
    "GpuNodePool": _NOT_YET,
    "GpuOperator": _NOT_YET,
    "IsolationCheck": _NOT_YET,
    "Istio": _NOT_YET,
    "KafkaAccess": _PART,
    "KafkaTopic": _PART,
    "Karpenter": _NOT_YET,
    "KongGateway": _NOT_YET,
    "LocalCluster": "gives a provider, which a program makes of its own kubeconfig",
    "MeshPolicy": _NOT_YET,
    "ModelServing": _NOT_YET,
    "Monitoring": _NOT_YET,
    "Msk": _PART,
    "Network": _NOT_YET,
    "Operator": "a chart with values that only the chart describes",
    "Platform": _WHOLE,
    "Rds": _PART,
    "S3": _PART,
    "SecretStore": _NOT_YET,
    "_KeepsSecrets": _WHOLE,
}
"""Components that the plugin does not offer, each with the reason."""

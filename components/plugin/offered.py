"""Components that the plugin offers, each with the model that checks its inputs."""

from __future__ import annotations

from components.ai.model_inputs import ModelServingInputs
from components.ai.model_serving import ModelServing
from components.base import PlatformComponent
from components.cluster.eks_cluster import EksCluster
from components.cluster.eks_inputs import EksClusterInputs, KarpenterInputs, NetworkInputs
from components.cluster.encryption_key import EncryptionKey, EncryptionKeyInputs
from components.cluster.gpu_inputs import GpuNodePoolInputs, GpuOperatorInputs
from components.cluster.gpu_node_pool import GpuNodePool
from components.cluster.gpu_operator import GpuOperator
from components.cluster.karpenter import Karpenter
from components.cluster.namespace import PlatformNamespace, PlatformNamespaceInputs
from components.cluster.network import Network
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
from components.mesh.gateway import Gateway
from components.mesh.gateway_inputs import GatewayInputs, KongGatewayInputs
from components.mesh.istio import Istio, IstioInputs, MeshPolicy, MeshPolicyInputs
from components.mesh.kong_gateway import KongGateway
from components.observability.end_to_end import EndToEndCheck, EndToEndCheckInputs
from components.security.admission_policy import AdmissionPolicy, AdmissionPolicyInputs
from components.security.api_key import ApiKey, ApiKeyInputs
from components.security.certificate import Certificate, CertificateInputs
from components.security.isolation_check import IsolationCheck, IsolationCheckInputs
from components.security.keycloak import Keycloak, KeycloakInputs
from components.security.logins import Logins, LoginsInputs
from components.security.secret_store import SecretStore, SecretStoreInputs
from components.services.service import Service
from components.services.service_inputs import ServiceInputs

OFFERED: dict[type[PlatformComponent], type[Inputs]] = {
    AdmissionPolicy: AdmissionPolicyInputs,
    ApiKey: ApiKeyInputs,
    Cache: CacheInputs,
    Certificate: CertificateInputs,
    ChangeDataCapture: ChangeDataCaptureInputs,
    EksCluster: EksClusterInputs,
    EncryptionKey: EncryptionKeyInputs,
    EndToEndCheck: EndToEndCheckInputs,
    Gateway: GatewayInputs,
    GpuNodePool: GpuNodePoolInputs,
    GpuOperator: GpuOperatorInputs,
    IsolationCheck: IsolationCheckInputs,
    Istio: IstioInputs,
    KafkaCluster: KafkaInputs,
    Karpenter: KarpenterInputs,
    Keycloak: KeycloakInputs,
    KongGateway: KongGatewayInputs,
    Logins: LoginsInputs,
    MeshPolicy: MeshPolicyInputs,
    ModelServing: ModelServingInputs,
    Nats: NatsInputs,
    Network: NetworkInputs,
    ObjectStore: ObjectStoreInputs,
    PlatformNamespace: PlatformNamespaceInputs,
    PostgresCluster: PostgresInputs,
    SchemaRegistry: SchemaRegistryInputs,
    SecretStore: SecretStoreInputs,
    Service: ServiceInputs,
    VectorDatabase: VectorDatabaseInputs,
}

_WHOLE = "takes the configuration of a whole platform"
_PART = "part of another component, which takes its inputs"
INTERNAL: dict[str, str] = {
    "AiService": "part of Service, which takes its inputs",
    "AwsFoundation": _WHOLE,
    "DataLayer": _WHOLE,
    "DataServer": _PART,
    "DataTask": _PART,
    "ExistingCluster": "gives a provider, which a program makes of its own kubeconfig",
    "Istiod": "serves sidecars that only a whole platform renders",
    "KafkaAccess": _PART,
    "KafkaTopic": _PART,
    "KeycloakRealm": "declares the realm of a platform's people",
    "LocalCluster": "gives a provider, which a program makes of its own kubeconfig",
    "Grafana": "takes the dashboards and the realm of a whole platform",
    "Jaeger": "receives the spans of a platform's OpenTelemetry gateway",
    "LogStore": "runs in a namespace of its own, beside a whole platform",
    "Monitoring": "takes the records of a platform's services",
    "Prometheus": "takes the rules of a platform's services",
    "Msk": _PART,
    "Opa": "its data are derived from the records of a whole platform",
    "OpenTelemetryCollector": "is admitted by the policy of a whole platform",
    "OpenTelemetryGateway": "samples by the objectives in the records of a platform's services",
    "Operator": "a chart with values that only the chart describes",
    "Platform": _WHOLE,
    "Rds": _PART,
    "S3": _PART,
    "StoreSnapshots": "takes a secret store and an object store of a platform",
    "Traffic": "its rules are derived from the records of a whole platform",
    "_KeepsSecrets": _WHOLE,
}
"""Components that the plugin does not offer, each with the reason."""

"""A private certificate authority, and a server certificate signed by it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as k8s
import pulumi_tls as tls
from pydantic import Field

from components.base import PlatformComponent, labels
from components.config.base import ObjectName
from components.inputs import Inputs, Text, checked

CA_HOURS = 10 * 365 * 24
CERTIFICATE_HOURS = 397 * 24
"""Validity in hours: the longest that browsers accept (CA/Browser Forum ballot SC31)."""


class CertificateArgs(TypedDict):
    """Inputs of a certificate."""

    namespace: pulumi.Input[str]
    """Namespace of the Secret."""
    secret_name: str
    """Name of the Secret that receives tls.crt, tls.key and ca.crt."""
    hosts: Sequence[pulumi.Input[str]]
    """DNS names and IP addresses that the certificate covers. An output is a DNS name."""
    client: NotRequired[bool]
    """Whether it is also a client certificate, as for peers of one cluster. Default false."""


class CertificateInputs(Inputs):
    """What `CertificateArgs` may hold."""

    namespace: Text = Field(description="Namespace of the Secret")
    secret_name: ObjectName = Field(description="Name of the Secret")
    hosts: list[Text] = Field(min_length=1, max_length=200, strict=False, description="DNS names and IP addresses")
    client: bool = Field(default=False, description="Whether it is also a client certificate")


def _is_address(host: pulumi.Input[str]) -> bool:
    if not isinstance(host, str):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class CertificateResources(NamedTuple):
    """Resources of a certificate."""

    authority: tls.SelfSignedCert
    certificate: tls.LocallySignedCert
    secret: k8s.core.v1.Secret


class Certificate(PlatformComponent):
    """A server certificate with its own certificate authority. Private keys are secrets in the Pulumi state."""

    authority: pulumi.Output[str]
    """Certificate of the authority (PEM), which clients must trust."""
    secret_name: pulumi.Output[str]
    """Name of the Secret, known once it exists."""

    def __init__(self, name: str, args: CertificateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(CertificateInputs, self, name, args)
        super().__init__("security", name, args, opts)
        ca_key = tls.PrivateKey(f"{name}-ca", algorithm="ECDSA", ecdsa_curve="P256", opts=self.child())
        ca = tls.SelfSignedCert(
            f"{name}-ca",
            private_key_pem=ca_key.private_key_pem,
            subject={"common_name": "CogniForge platform", "organization": "CogniForge"},
            is_ca_certificate=True,
            validity_period_hours=CA_HOURS,
            allowed_uses=["cert_signing", "crl_signing"],
            opts=self.child(),
        )
        key = tls.PrivateKey(name, algorithm="ECDSA", ecdsa_curve="P256", opts=self.child())
        request = tls.CertRequest(
            name,
            private_key_pem=key.private_key_pem,
            subject={"common_name": inputs.hosts[0], "organization": "CogniForge"},
            dns_names=[host for host in inputs.hosts if not _is_address(host)],
            ip_addresses=[host for host in inputs.hosts if _is_address(host)],
            opts=self.child(),
        )
        client = ["client_auth"] if inputs.client else []
        certificate = tls.LocallySignedCert(
            name,
            cert_request_pem=request.cert_request_pem,
            ca_private_key_pem=ca_key.private_key_pem,
            ca_cert_pem=ca.cert_pem,
            validity_period_hours=CERTIFICATE_HOURS,
            allowed_uses=["digital_signature", "key_encipherment", "server_auth", *client],
            opts=self.child(),
        )
        chain = pulumi.Output.concat(certificate.cert_pem, ca.cert_pem)
        secret = k8s.core.v1.Secret(
            name,
            metadata={
                "name": inputs.secret_name,
                "namespace": inputs.namespace,
                "labels": labels("certificate", "security"),
            },
            type="kubernetes.io/tls",
            string_data={"tls.crt": chain, "tls.key": key.private_key_pem_pkcs8, "ca.crt": ca.cert_pem},
            opts=self.child(),
        )
        self.resources = CertificateResources(ca, certificate, secret)
        self.authority = pulumi.Output.unsecret(ca.cert_pem)
        self.secret_name = secret.metadata["name"]
        self.finish(
            {
                "kind": "Secret",
                "namespace": inputs.namespace,
                "name": self.secret_name,
                "probe": "the Secret exists",
            },
            authority=self.authority,
        )

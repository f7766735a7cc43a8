"""The node's certificate authorities, certificates and keys: generated once, ECDSA P-256, mode 0600."""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.node import settings
from local.node.settings import NodePaths
from local.paths import private_folder, write_private

VALIDITY = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)

_SERVER = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_LOOPBACK = ("127.0.0.1", "localhost")


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    write_private(
        path,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + VALIDITY)
    )


def _expires_soon(path: Path) -> bool:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC) + RENEW_BEFORE


class Authority:
    """A certificate authority, stored in a folder as `<name>.crt` and `<name>.key`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.certificate_file = folder / f"{name}.crt"
        key_file = folder / f"{name}.key"
        self.renewed = not (key_file.exists() and self.certificate_file.exists()) or _expires_soon(
            self.certificate_file
        )
        if self.renewed:
            self._create(name, key_file)
        self._key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        self._certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    def _create(self, name: str, key_file: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"cogniforge {name}")])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write_key(key_file, key)
        write_private(self.certificate_file, certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        common_name: str,
        *,
        groups: Iterable[str] = (),
        hosts: Iterable[str] = (),
        client: bool = True,
    ) -> None:
        """Write `<name>.crt` and `<name>.key`, unless they exist, are signed by this authority and stay valid."""
        certificate_file, key_file = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        if not self.renewed and certificate_file.exists() and key_file.exists() and not _expires_soon(certificate_file):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        usages = [_CLIENT] if client else []
        builder = _builder(subject, self._certificate.subject, key.public_key())
        names = [_general_name(host) for host in hosts]
        if names:
            usages.append(_SERVER)
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False).sign(
            self._key,  # pyright: ignore[reportArgumentType]
            hashes.SHA256(),
        )
        _write_key(key_file, key)
        write_private(certificate_file, certificate.public_bytes(serialization.Encoding.PEM))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def ensure(node: NodePaths) -> None:
    """Create missing certificates, and renew those that expire within 30 days. Others stay unchanged."""
    folder = private_folder(node.pki)
    address = str(settings.NODE_ADDRESS)
    cluster = Authority(folder, "cluster-ca")
    etcd = Authority(folder, "etcd-ca")
    front = Authority(folder, "front-proxy-ca")
    service = f"kubernetes.default.svc.{settings.CLUSTER_DOMAIN}"
    api_hosts = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", service, address, *_LOOPBACK]
    cluster.issue("apiserver", "kube-apiserver", hosts=[*api_hosts, str(settings.API_SERVICE_ADDRESS)], client=False)
    cluster.issue("apiserver-kubelet", "kube-apiserver-kubelet-client", groups=["system:masters"])
    cluster.issue("admin", "cogniforge-admin", groups=["system:masters"])
    cluster.issue("controller-manager", "system:kube-controller-manager", hosts=_LOOPBACK)
    cluster.issue("scheduler", "system:kube-scheduler", hosts=_LOOPBACK)
    cluster.issue("proxy", "system:kube-proxy", groups=["system:node-proxier"])
    cluster.issue("volume-provisioner", "cogniforge:volume-provisioner")
    cluster.issue("load-balancer", "cogniforge:load-balancer")
    cluster.issue("network-policies", "cogniforge:network-policies")
    cluster.issue("capture", "cogniforge:capture")
    name = f"system:node:{settings.NODE_NAME}"
    cluster.issue("kubelet", name, groups=["system:nodes"], hosts=[settings.NODE_NAME, address])
    etcd.issue("etcd", "etcd", hosts=_LOOPBACK)
    etcd.issue("etcd-client", "kube-apiserver")
    front.issue("front-proxy", "front-proxy-client")
    if not (folder / "service-accounts.key").exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        _write_key(folder / "service-accounts.key", key)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_private(folder / "service-accounts.pub", public)
    if not (folder / "secrets-encryption.key").exists():
        write_private(folder / "secrets-encryption.key", secrets.token_bytes(32))

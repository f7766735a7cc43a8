"""Stand-in for the tls provider: private keys, certificate requests and certificates."""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.providers.computed import Computed, ComputedProvider, Values
from local.providers.server import ProviderError

_CURVES: dict[str, ec.EllipticCurve] = {
    "P224": ec.SECP224R1(),
    "P256": ec.SECP256R1(),
    "P384": ec.SECP384R1(),
    "P521": ec.SECP521R1(),
}
_NAMES = {
    "commonName": NameOID.COMMON_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "country": NameOID.COUNTRY_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "province": NameOID.STATE_OR_PROVINCE_NAME,
}
_EXTENDED = {"server_auth": ExtendedKeyUsageOID.SERVER_AUTH, "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH}
_KEY_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
)
_KEY_USES += ("cert_signing", "crl_signing", "encipher_only", "decipher_only")


def _private_key(inputs: Values) -> tuple[str, Values]:
    match inputs["algorithm"]:
        case "ECDSA":
            key: Any = ec.generate_private_key(_CURVES[inputs.get("ecdsaCurve") or "P224"])
        case "RSA":
            key = rsa.generate_private_key(65537, inputs.get("rsaBits") or 2048)
        case "ED25519":
            key = ed25519.Ed25519PrivateKey.generate()
        case other:
            raise ProviderError(f'algorithm "{other}" is not one of RSA, ECDSA, ED25519')
    pem, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat, serialization.NoEncryption()
    pkcs8 = key.private_bytes(pem, form.PKCS8, plain).decode()
    traditional = (
        pkcs8 if inputs["algorithm"] == "ED25519" else key.private_bytes(pem, form.TraditionalOpenSSL, plain).decode()
    )
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    return secrets.token_hex(20), {
        "privateKeyPem": traditional,
        "privateKeyPemPkcs8": pkcs8,
        "publicKeyPem": public,
    }


def _load(pem: str) -> Any:
    try:
        return serialization.load_pem_private_key(pem.encode(), None)
    except ValueError as error:
        raise ProviderError(f"privateKeyPem cannot be read: {error}") from None


def _subject(inputs: Values) -> x509.Name:
    values = inputs.get("subject") or {}
    return x509.Name([x509.NameAttribute(oid, values[key]) for key, oid in _NAMES.items() if values.get(key)])


def _alternative_names(inputs: Values) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in inputs.get("dnsNames") or []]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in inputs.get("ipAddresses") or []]
    return names + [x509.UniformResourceIdentifier(uri) for uri in inputs.get("uris") or []]


def _hash(key: Any) -> Any:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _request(inputs: Values) -> tuple[str, Values]:
    key = _load(inputs["privateKeyPem"])
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(inputs))
    if names := _alternative_names(inputs):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    request = builder.sign(key, _hash(key))
    return secrets.token_hex(20), {
        "certRequestPem": request.public_bytes(serialization.Encoding.PEM).decode(),
        "keyAlgorithm": type(key).__name__,
    }


def _issue(
    inputs: Values, subject: x509.Name, issuer: x509.Name, public: Any, signer: Any, names: Any
) -> tuple[str, Values]:
    start = datetime.datetime.now(datetime.UTC)
    end = start + datetime.timedelta(hours=inputs["validityPeriodHours"])
    uses = set(inputs["allowedUses"])
    authority = bool(inputs.get("isCaCertificate"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(minutes=5))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(*(use in uses for use in _KEY_USES)), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    if extended := [oid for use, oid in _EXTENDED.items() if use in uses]:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(signer, _hash(signer))
    return str(certificate.serial_number), {
        "certPem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "validityStartTime": start.isoformat(timespec="seconds"),
        "validityEndTime": end.isoformat(timespec="seconds"),
        "readyForRenewal": False,
    }


def _self_signed(inputs: Values) -> tuple[str, Values]:
    key = _load(inputs["privateKeyPem"])
    subject = _subject(inputs)
    return _issue(inputs, subject, subject, key.public_key(), key, _alternative_names(inputs))


def _locally_signed(inputs: Values) -> tuple[str, Values]:
    request = x509.load_pem_x509_csr(inputs["certRequestPem"].encode())
    authority = x509.load_pem_x509_certificate(inputs["caCertPem"].encode())
    try:
        names = list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    signer = _load(inputs["caPrivateKeyPem"])
    return _issue(inputs, request.subject, authority.subject, request.public_key(), signer, names)


_CERTIFICATE = ("certPem", "validityStartTime", "validityEndTime", "readyForRenewal")


class Tls(ComputedProvider):
    """Provider for the resource tokens of pulumi-tls."""

    package = "tls"
    sdk = "pulumi-tls"
    resources = {  # noqa: RUF012 - constant
        "tls:index/privateKey:PrivateKey": Computed(
            _private_key,
            ("privateKeyPem", "privateKeyPemPkcs8"),
            ("privateKeyPem", "privateKeyPemPkcs8", "publicKeyPem"),
        ),
        "tls:index/certRequest:CertRequest": Computed(_request, (), ("certRequestPem", "keyAlgorithm")),
        "tls:index/selfSignedCert:SelfSignedCert": Computed(_self_signed, (), _CERTIFICATE),
        "tls:index/locallySignedCert:LocallySignedCert": Computed(_locally_signed, (), _CERTIFICATE),
    }

"""A server certificate with a certificate authority of its own."""

from cogniforge.security.certificate import Certificate

certificate = Certificate(
    "shop-tls", {"namespace": "shop", "secret_name": "shop-tls", "hosts": ["shop.example.com", "shop.shop.svc"]}
)

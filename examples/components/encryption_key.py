"""A KMS key for the backups of one application."""

from cogniforge.cluster.encryption_key import EncryptionKey

key = EncryptionKey("shop-backups", {"purpose": "Backups of the shop", "account_id": "123456789012"})

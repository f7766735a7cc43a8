"""The audit log's format, the proofs of its entries, and what its entries, Billing and Jaeger say about one request.

Audit writes it, the Portal and `forge` read it. `forge` loads this package from its source files, since it does not
install the services' packages: modules here need the standard library and `cryptography` only, and import each other
relatively.
"""

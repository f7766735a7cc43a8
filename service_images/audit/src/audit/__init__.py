"""Audit: an append-only log of all events, as a Merkle tree with signed checkpoints."""

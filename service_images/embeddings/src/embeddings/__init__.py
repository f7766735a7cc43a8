"""Embeddings: texts become vectors, batched, cached, asked for once however many wait."""

"""Embeddings: computes vectors of texts, with batching, a cache, and deduplication of concurrent requests."""

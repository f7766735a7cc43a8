"""Retriever: documents in, passages with their sources out."""

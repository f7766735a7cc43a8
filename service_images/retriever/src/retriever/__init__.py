"""Retriever: stores documents, and finds passages with their sources."""

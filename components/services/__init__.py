"""The AI services: one file a service, each with its record, and what is derived from the records."""

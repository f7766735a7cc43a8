"""The AI services: one record per service, and the modules that derive resources from the records."""

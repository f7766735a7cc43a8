"""Policies on what the platform deploys."""

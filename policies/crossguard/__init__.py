"""Policies on Pulumi resources, checked in every preview and update."""

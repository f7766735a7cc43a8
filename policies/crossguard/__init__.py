"""Policies for Pulumi resources, checked in every preview and update."""

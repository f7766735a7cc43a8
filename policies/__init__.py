"""Policies for the platform's resources."""

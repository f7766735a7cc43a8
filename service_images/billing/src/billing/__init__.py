"""Billing: computes meters, budgets and invoices from usage events."""

"""Billing: usage events become meters, budgets and invoices."""

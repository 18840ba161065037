"""Invoices: what organizations that pay afterwards are billed, and the monthly statements of the others."""

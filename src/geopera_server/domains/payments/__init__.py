"""Buying credits: cards, charges, top-ups, approvals."""

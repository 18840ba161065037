"""Ids, times and JSON: what every layer may use."""

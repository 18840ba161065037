"""Commitments: areas that organizations promise to order over a term, at a rate."""

"""Scenes of open data and samples that anybody may look at: what they are, and pictures of them."""

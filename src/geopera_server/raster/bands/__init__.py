"""Telling from the pixels of a raster what its bands show."""

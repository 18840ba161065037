"""The way out for imagery: every address that GDAL opens is judged, resolved and connected to by this process."""

"""Raster work on files: read, clip, describe and write. It knows no database and no web.

Every call opens its own datasets, because GDAL's are not thread-safe; so all of it may run in worker threads.
"""

"""Copies of stored files, which are made before the rows that name them.

A job that removes them is queued first, and called off by the very transaction that names them: whatever happens in between, a
copy is named by an asset or removed, and no asset names one that was removed.
"""

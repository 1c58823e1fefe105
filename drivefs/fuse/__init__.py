"""Adapters between the kernel and the filesystem; no policy."""

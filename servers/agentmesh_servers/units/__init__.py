"""Exact conversion between units."""

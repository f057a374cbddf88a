"""Exact arithmetic: expressions in, rationals out."""

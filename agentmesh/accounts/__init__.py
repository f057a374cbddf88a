"""Receipts for answers: priced, signed by both sides, within a mesh and between owners."""

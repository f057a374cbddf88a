"""Checkpoints published on a chain: what was published there, proved offline, and how it gets there.

Proving needs nothing beyond the package; publishing wants the `chain` extra (web3), OpenTimestamps the `ots` extra.
"""

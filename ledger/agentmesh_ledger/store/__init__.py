"""The ledger in a database, through SQLAlchemy Core; the only part of this package that needs an extra."""

from __future__ import annotations

from agentmesh_ledger.store.audit import LedgerAudit, verify_ledger

__all__ = ["LedgerAudit", "verify_ledger"]

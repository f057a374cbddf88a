"""What the ledger's benchmark measures, and the primitives it is measured against."""

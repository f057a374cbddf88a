"""What `benchmarks/anchor.py` measures: a checkpoint before witnesses and on a chain."""

"""Economic identity: accounts bound to agents, receipts of what was asked and answered, and what they add up to.

No money moves here. What both sides signed is summed from a log's entries, and one balance is proved from a root.
"""

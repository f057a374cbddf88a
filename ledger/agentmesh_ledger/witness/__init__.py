"""A witness of logs, https://c2sp.org/tlog-witness: it cosigns a checkpoint that continues all it cosigned before.

`request` is what a log submits, `verdict` the rule, `state` what was cosigned last, `core` the whole without a
network, and `server` the same over HTTP, the only part that needs an extra.
"""

"""The command line. A verb reads its arguments, calls one thing, and lets a view say what came of it.

Nothing heavy is imported before a verb runs, so that `agentmesh --help` answers at once; `exits` alone turns errors
into exit codes.
"""

from __future__ import annotations

"""What an auditor does with a record beyond verifying it: replays it, or holds it against another side's.

Nothing here runs a model or a tool.
"""

from agentmesh.audit.replay import Replay, ReplayedMessage, replay

__all__ = ["Replay", "ReplayedMessage", "replay"]

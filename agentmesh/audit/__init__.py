"""What an auditor does with a record beyond verifying it. Nothing here runs a model or a tool."""

from agentmesh.audit.replay import Replay, ReplayedMessage, replay

__all__ = ["Replay", "ReplayedMessage", "replay"]

"""A mesh over streamable HTTP: who is let in, within which limits, and how the server ends; see docs/serving-http.md."""

from agentmesh.serving.http.server import PATH, HttpFace, serve_http

__all__ = ["PATH", "HttpFace", "serve_http"]

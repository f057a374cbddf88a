"""Models served elsewhere: any OpenAI-compatible endpoint, such as llama-server, vLLM, Ollama or LM Studio.

Nothing of the extra `openai` is imported until an endpoint is opened.
"""

from __future__ import annotations

from agentmesh_models.chat import Engine
from agentmesh_models.endpoint.address import Address, parse_address
from agentmesh_models.errors import ModelError

__all__ = ["Address", "open_endpoint", "parse_address"]


def open_endpoint(
    spec: str, *, n_ctx: int | None = None, api_key_env: str | None = None, timeout: float | None = None
) -> Engine:
    """Ask the endpoint that `spec` names (`openai:URL#MODEL`) for its models, and return an engine for the one.

    Without `#MODEL` it must serve exactly one. The key is in the environment variable `api_key_env`, else in
    OPENAI_API_KEY, which is sent over https and within this machine only; it is part of no error, profile or log.
    `timeout` is how many seconds the endpoint may be silent (default 120), `n_ctx` its context where it does not
    tell. Waits for the network: call it in a thread.

    Raises:
        ModelError: "bad_request" for an address that is none; "offline", "endpoint"; "no_backend" without the
            package `openai`.
    """
    parse_address(spec)
    try:
        from agentmesh_models.endpoint.engine import connect
    except ModuleNotFoundError as error:
        raise ModelError(
            "no_backend", f"endpoints need {error.name}: pip install 'agentmesh-runtime[openai]'"
        ) from error
    return connect(spec, n_ctx=n_ctx, api_key_env=api_key_env, timeout=timeout)

"""What somebody in between can do to a signed call, in every combination of transport and era: each is refused.

One connection for each combination, on which all the attacks are tried one after another: a refused call must not
spoil the next one. The reasons are looked at where they are told: the server's in what it answers, the client's in what
its caller gets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from agentmesh.serving.signing import CODES, KEY, KnownKeys, claims, reason_of
from agentmesh_ledger import KeyStore
from agentmesh_ledger.draft import timestamp
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.statement import Statement, content_digest, seal_statement

pytestmark = pytest.mark.anyio

combinations = pytest.mark.parametrize(
    ("transport", "era"), [(line, era) for line in ("memory", "stdio", "http") for era in ("legacy", "auto")]
)
REASON = "dev.agentmesh/reason"


async def refused(client: Client, **more: Any) -> MCPError:
    """The error that a call of `echo` ends in."""
    with pytest.raises(MCPError) as caught:
        await client.call_tool("echo", {"text": "pay 10"}, **more)
    return caught.value


async def refused_by_server(
    house: Any, client: Client, reason: str, asks: Callable[[Any], Any], **more: Any
) -> None:
    """The server refuses what has become of a request, and the caller gets no result."""
    house.middleman.asks = asks
    error = await refused(client, **more)
    house.middleman.rest()
    answer = house.middleman.answered[-1]["error"]
    assert (answer["data"][REASON], answer["code"]) == (reason, CODES[reason]), (reason, answer)
    assert reason_of(error) is not None, (reason, error)
    await works(client)


async def refused_by_client(house: Any, client: Client, reason: str, answers: Callable[[Any], Any]) -> None:
    """The client refuses what has become of a result."""
    house.middleman.answers = answers
    error = await refused(client)
    house.middleman.rest()
    assert (reason_of(error), error.code) == (reason, CODES[reason]), (reason, error)
    await works(client)


async def works(client: Client) -> None:
    assert (await client.call_tool("echo", {"text": "fine"})).content[0].text == "fine"


def altered(message: Any) -> Any:
    message["params"]["arguments"]["text"] = "pay 1000"
    return message


def renamed(message: Any) -> Any:
    message["params"]["name"] = "large"
    return message


def added(message: Any) -> Any:
    message["params"]["inputResponses"] = {}
    return message


def stripped(message: Any) -> Any:
    """A downgrade: as if the other side did not sign."""
    place = message["params"]["_meta"] if "params" in message else message["result"]["_meta"]
    del place[KEY]
    return message


def flipped(message: Any) -> Any:
    """One bit of the signature."""
    place = message["params"]["_meta"] if "params" in message else message["result"]["_meta"]
    one = place[KEY]["signatures"][0]
    one["sig"] = ("B" if one["sig"][0] == "A" else "A") + one["sig"][1:]
    return message


def garbled(message: Any) -> Any:
    place = message["params"]["_meta"] if "params" in message else message["result"]["_meta"]
    place[KEY]["more"] = 1
    return message


def answered_otherwise(message: Any) -> Any:
    message["result"]["content"][0]["text"] = "pay 1000"
    return message


def made_for(house: Any, audience: str, time: str | None = None) -> Callable[[Any], Any]:
    """The request as its own author signed it for somebody else, or long ago."""

    def swap(message: Any) -> Any:
        params = {key: value for key, value in message["params"].items() if key != "_meta"}
        key, nonce = house.here_keys.agent("front"), "ab" * 16
        statement = Statement(
            type="request",
            method=message["method"],
            name=params["name"],
            digest=content_digest(nonce, canonical(params)),
            author=key.id,
            subject="front@example.org/here",
            audience=audience,
            dialogue="",
            nonce=nonce,
            time=time or timestamp(datetime.now(UTC)),
        )
        message["params"]["_meta"][KEY] = dict(seal_statement(key, statement).wire)
        return message

    return swap


@combinations
async def test_every_attack_on_a_request_is_refused_by_the_server(
    house: Any, part: Any, transport: str, era: str
) -> None:
    here = replace(house.here(), keys=KeyStore(house.folder / "elsewhere"))
    async with house.client(transport, era, here) as client:
        await works(client)
        before = house.middleman.seen[-1]
        await refused_by_server(house, client, "altered_arguments", altered)
        await refused_by_server(house, client, "altered_arguments", added)
        if transport != "http":  # there the SDK's own headers name the tool, and refuse another one before us
            await refused_by_server(house, client, "altered_arguments", renamed)
        await refused_by_server(house, client, "unsigned", stripped)
        await refused_by_server(house, client, "bad_signature", flipped)
        await refused_by_server(house, client, "malformed", garbled)

        def again(message: Any) -> Any:
            return {**before, "id": message["id"]}

        await refused_by_server(house, client, "replayed", again)
        other = house.here_keys.agent("somebody").id
        await refused_by_server(house, client, "wrong_audience", made_for(house, other))
        await refused_by_server(house, client, "wrong_audience", made_for(house, ""))
        old = timestamp(datetime.fromtimestamp(datetime.now().timestamp() - 125, UTC))
        await refused_by_server(house, client, "expired", made_for(house, house.server_key, old))
        early = timestamp(datetime.fromtimestamp(datetime.now().timestamp() + 125, UTC))
        await refused_by_server(house, client, "expired", made_for(house, house.server_key, early))
        # Another key under the subject by which the first one is pinned.
        error = await refused(client, meta=claims(dialogue="d1", agent="front"))
        assert (reason_of(error), error.code) == ("changed_key", CODES["changed_key"])
        await works(client)
    theirs = house.records("there")
    # A stranger cannot fill the disk: of what was refused the server wrote nothing.
    assert len(theirs) == 2 * sum(1 for each in theirs if each.message.kind == "sent")
    said = {json.loads(part(each, "content"))["arguments"]["text"] for each in theirs[::2]}
    assert said == {"fine"}


@combinations
async def test_every_attack_on_a_result_is_refused_by_the_client(
    house: Any, transport: str, era: str
) -> None:
    async with house.client(transport, era, house.here()) as client:
        await works(client)
        before = house.middleman.answered[-1]
        await refused_by_client(house, client, "altered_result", answered_otherwise)
        await refused_by_client(house, client, "unsigned", stripped)
        await refused_by_client(house, client, "bad_signature", flipped)
        await refused_by_client(house, client, "malformed", garbled)

        def swapped(message: Any) -> Any:
            return {**before, "id": message["id"]}

        await refused_by_client(house, client, "swapped_result", swapped)

        def late(message: Any) -> Any:
            house.clock.ahead = 200
            return message

        house.middleman.answers = late
        error = await refused(client)
        house.middleman.rest()
        house.clock.ahead = 0
        assert reason_of(error) == "expired"
        await works(client)

        def for_another(message: Any) -> Any:
            message["params"]["_meta"][KEY] = made_for_by(house, message, "somebody")
            return message

        house.middleman.asks = for_another
        error = await refused(client)
        house.middleman.rest()
        assert reason_of(error) == "wrong_audience", "the answer was for whom the server saw"
        await works(client)
    ours = house.records("here")
    kept = [str(each.message.facts["refused"]) for each in ours if "refused" in each.message.facts]
    assert kept == [
        "altered_result", "unsigned", "bad_signature", "malformed", "swapped_result", "expired", "wrong_audience",
    ]  # fmt: skip


def made_for_by(house: Any, message: Any, agent: str) -> Any:
    params = {key: value for key, value in message["params"].items() if key != "_meta"}
    key, nonce = house.here_keys.agent(agent), "cd" * 16
    statement = Statement(
        type="request",
        method=message["method"],
        name=params["name"],
        digest=content_digest(nonce, canonical(params)),
        author=key.id,
        subject=f"{agent}@example.org/here",
        audience=house.server_key,
        dialogue="",
        nonce=nonce,
        time=timestamp(datetime.now(UTC)),
    )
    return dict(seal_statement(key, statement).wire)


@combinations
async def test_keys_that_are_not_known_or_have_changed_are_refused_in_both_directions(
    house: Any, transport: str, era: str
) -> None:
    front = house.here_keys.agent("front").id
    async with house.client(transport, era, house.here(), listed=(front,)) as client:
        await works(client)
        error = await refused(client, meta=claims(dialogue="d1", agent="stranger"))
        assert (reason_of(error), error.code) == ("unknown_key", CODES["unknown_key"])
        await works(client)
    house.records("here")

    # Whom the client does not know: not one of a list, not the one that is pinned, not the one that was named.
    stranger = house.here_keys.agent("stranger").id
    pinned = KnownKeys()
    pinned.pin("server", "lab", stranger)
    for known, audience, reason in (
        (KnownKeys(listed=[stranger]), None, "unknown_key"),
        (pinned, None, "changed_key"),
        (KnownKeys(), stranger, "unknown_key"),
    ):
        connected = False
        with pytest.RaisesGroup(
            pytest.RaisesExc(MCPError, check=lambda e: reason_of(e) is not None),
            flatten_subgroups=True,
            allow_unwrapped=True,
        ) as caught:
            async with house.client(transport, era, house.here(known=known), audience=audience):
                connected = True
        assert not connected
        errors = list(_leaves(caught.value))
        # The request names the wrong server as its audience, which the true one refuses; it signs that with its own key.
        assert [reason_of(each) for each in errors] == [reason], errors
        house.records("here")


def _leaves(error: BaseException) -> Any:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error

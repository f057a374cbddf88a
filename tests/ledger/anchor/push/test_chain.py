"""What a node says is bounded in time and size and held to its shape; a deployment is looked at."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor import rpc
from agentmesh_ledger.anchor.account import Account
from agentmesh_ledger.anchor.chain import Chain
from agentmesh_ledger.anchor.contract import contract
from agentmesh_ledger.anchor.deploy import address_of, deploy

from .conftest import Asked, Node, Proxy


@pytest.mark.parametrize(
    "url",
    [
        "",
        "node",
        "ftp://node",
        "http://",
        "http://:80",
        "http://node:0",
        "http://node:x",
        "http://[",
        "ws://node",
    ],
)
def test_what_is_no_address_of_a_node_is_refused_and_not_quoted(account: Account, url: str) -> None:
    with pytest.raises(LedgerError) as caught:
        Chain.connect(url)
    assert caught.value.reason == "refused" and (not url or f"'{url}'" not in str(caught.value))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://me:secret@node.example/v3/secret?secret#secret", "https://node.example"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("http://[::1]:8545/secret", "http://[::1]:8545"),
    ],
)
def test_of_an_address_only_scheme_host_and_port_are_shown(account: Account, url: str, place: str) -> None:
    with Chain.connect(url) as chain:
        assert chain.place == place


def test_the_chain_that_was_named_is_the_only_one(node: Node, account: Account) -> None:
    with Chain.connect(node.url, chain_id=31337) as chain:
        assert chain.id() == 31337
    with Chain.connect(node.url, chain_id=1) as chain, pytest.raises(LedgerError) as caught:
        chain.id()
    assert (caught.value.reason, caught.value.expected, caught.value.found) == ("refused", "1", "31337")


def test_an_answer_that_is_too_long_is_cut_off(
    proxy: Proxy, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "MAX_BODY", 1000)
    proxy.rules["eth_getCode"] = proxy.says("0x" + "00" * 1000)
    with Chain.connect(proxy.url) as chain:
        with pytest.raises(LedgerError, match="with what is no JSON"):
            chain.code("0x" + "00" * 20)
        assert chain.id() == 31337, "the rest of it is not taken for the next answer"


@pytest.mark.parametrize(
    "head", [b"content-length: 100000\r\n\r\n", b"x-slow: "], ids=["its body", "its head"]
)
def test_an_answer_that_drips_is_given_up_after_the_time_for_one(
    account: Account, node: Node, head: bytes
) -> None:
    import socket
    import threading

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + head)
                try:
                    for _ in range(200):
                        if over.wait(0.05):
                            break
                        connection.sendall(b" ")
                except OSError:
                    pass  # given up

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with Chain.connect(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.5) as chain:
                with pytest.raises(LedgerError, match=r"within 0\.5 seconds"):
                    chain.id()
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("eth_getBlockByNumber", 7),
        ("eth_getBlockByNumber", {}),
        ("eth_getBlockByNumber", {"number": "0x1", "hash": "0x12", "timestamp": "0x1"}),
        ("eth_getBlockByNumber", {"number": "1", "hash": "0x" + "00" * 32, "timestamp": "0x1"}),
        ("eth_getBlockByNumber", None),
    ],
)
def test_a_block_that_is_none_is_the_nodes_fault(
    proxy: Proxy, account: Account, method: str, result: object
) -> None:
    proxy.rules[method] = proxy.says(result)
    with Chain.connect(proxy.url) as chain, pytest.raises(LedgerError) as caught:
        chain.head()
    assert caught.value.reason == "node"


def test_the_receipt_of_another_transaction_is_refused(
    node: Node, proxy: Proxy, account: Account, deployed: str
) -> None:
    (made,) = [each["hash"] for each in node.ask("eth_getBlockByNumber", "0x1", True)["transactions"]]
    with Chain.connect(proxy.url) as chain:
        found = chain.receipt(made)
        assert found is not None and found.contract == deployed
        wrong = "0x" + "12" * 32
        real = node.ask("eth_getTransactionReceipt", made)
        proxy.rules["eth_getTransactionReceipt"] = proxy.says(real)
        with pytest.raises(LedgerError, match="receipt of another transaction"):
            chain.receipt(wrong)
        proxy.rules["eth_getTransactionReceipt"] = proxy.says({**real, "blockHash": None})
        assert chain.receipt(made) is None


def test_the_contract_is_deployed_where_its_sender_and_nonce_say(node: Node, account: Account) -> None:
    node.ask("evm_setAutomine", True)
    heard: list[str] = []
    with Chain.connect(node.url) as chain:
        one = deploy(chain, account, poll=0.01, told=heard.append)
        two = deploy(chain, account, poll=0.01)
    assert one.address == address_of(account.address, 0) and two.address == address_of(account.address, 1)
    assert one.address in heard[0] and one.tx in heard[0]
    assert node.ask("eth_getCode", one.address, "latest") == f"0x{contract().runtime.hex()}"
    assert one.gas < 1_000_000


def test_a_deployment_that_is_not_mined_in_time_says_what_to_look_for(node: Node, account: Account) -> None:
    with Chain.connect(node.url) as chain:
        with pytest.raises(LedgerError, match="not known to be mined") as caught:
            deploy(chain, account, within=0.05, poll=0.01)
        node.mine()
        assert "look for it before deploying again" in str(caught.value)
        assert node.ask("eth_getCode", address_of(account.address, 0), "latest") != "0x"


def test_a_deployment_outlives_a_node_that_fails_in_between(
    node: Node, proxy: Proxy, account: Account
) -> None:
    node.ask("evm_setAutomine", True)
    left = [3]

    def fails(asked: Asked) -> dict[str, object] | int:
        left[0] -= 1
        return 500 if left[0] > 0 else asked.forward()

    proxy.rules["eth_getTransactionReceipt"] = proxy.rules["eth_sendRawTransaction"] = fails
    with Chain.connect(proxy.url) as chain:
        assert deploy(chain, account, poll=0.01).address == address_of(account.address, 0)
    assert len(node.mined(account.address)) == 1


def test_code_that_is_another_after_the_deployment_is_told(
    node: Node, proxy: Proxy, account: Account
) -> None:
    node.ask("evm_setAutomine", True)
    proxy.rules["eth_getCode"] = proxy.says("0x00")
    with Chain.connect(proxy.url) as chain, pytest.raises(LedgerError, match="is not that of the contract"):
        deploy(chain, account, poll=0.01)


def test_a_deployment_without_money_or_above_the_cap_is_refused(node: Node, account: Account) -> None:
    with Chain.connect(node.url) as chain:
        with pytest.raises(LedgerError, match="above the cap of 0.5 gwei") as caught:
            deploy(chain, account, max_fee_gwei=Decimal("0.5"))
        assert caught.value.reason == "refused"
        node.ask("anvil_setBalance", account.address, "0x0")
        with pytest.raises(LedgerError, match="insufficient funds") as caught:
            deploy(chain, account)
        assert caught.value.reason == "refused"
    node.mine()
    assert node.mined(account.address) == []


def test_an_error_that_comes_with_another_status_is_read_as_one(
    proxy: Proxy, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    from http.server import BaseHTTPRequestHandler

    plain = BaseHTTPRequestHandler.send_response
    monkeypatch.setattr(
        BaseHTTPRequestHandler, "send_response", lambda self, code, message=None: plain(self, 400, message)
    )
    with Chain.connect(proxy.url) as chain:
        proxy.rules["*"] = proxy.fails("already known")
        assert chain.send(b"") == "taken"
        for body in (b"no", b"{}", b'{"error": "no"}', b"[" * 100_000):
            proxy.rules["*"] = lambda asked, body=body: body
            with pytest.raises(LedgerError, match="answers HTTP 400|with what is no JSON") as caught:
                chain.send(b"")
            assert caught.value.reason == "node"


def test_a_chain_that_was_let_go_is_asked_nothing_more(account: Account, node: Node, proxy: Proxy) -> None:
    chain = Chain.connect(proxy.url)
    chain.id()
    chain.close()
    with pytest.raises(LedgerError) as caught:
        chain.id()
    assert caught.value.reason == "node" and proxy.methods() == ["eth_chainId"]

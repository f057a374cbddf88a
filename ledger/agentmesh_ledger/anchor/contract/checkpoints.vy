# pragma version 0.4.3
# pragma evm-version paris
# pragma optimize gas
"""
@title Checkpoints of logs
@license Apache-2.0
@notice Publishes the size and root of append-only logs. Nobody owns it, it holds no money, and nothing of it can be changed.
@dev A log is named by the SHA-256 of its origin; whoever sends speaks for the sender's own address only. Anything published is
     an event, which the receipt of its transaction proves. `anchor` also keeps one slot for each sender and log:
     the size in the 64 bits on top, and below it 192 bits that tell in which order which roots came.
     `evm-version paris`: newer instructions would save some ten gas, and there are chains without them.
"""

event Checkpoint:
    sender: indexed(address)
    origin: indexed(bytes32)
    size: uint64
    root: bytes32


event Announcement:
    sender: indexed(address)
    origin: indexed(bytes32)
    size: uint64
    root: bytes32


event Settlement:
    sender: indexed(address)
    origin: indexed(bytes32)
    size: uint64
    balances: bytes32


# size << 192 | the low 192 bits of keccak256(the slot before, size, root), each of the three in 32 bytes.
slots: HashMap[address, HashMap[bytes32, uint256]]


@external
def announce(origin: bytes32, size: uint64, root: bytes32):
    """
    @notice Publishes a checkpoint, and keeps nothing: neither order nor growth is seen to.
    @dev An event of its own, so that those of `anchor` alone give the order that the slot tells.
    """
    log Announcement(sender=msg.sender, origin=origin, size=size, root=root)


@external
def anchor(origin: bytes32, size: uint64, root: bytes32):
    """
    @notice Publishes a checkpoint that is larger than the last one of this sender and log.
    """
    self._advance(origin, size, root)


@external
def anchor_settled(origin: bytes32, size: uint64, root: bytes32, settlement: bytes32):
    """
    @notice The same, and beside it the root of the balances that the log comes to at this size.
    """
    self._advance(origin, size, root)
    log Settlement(sender=msg.sender, origin=origin, size=size, balances=settlement)


@external
@view
def head(sender: address, origin: bytes32) -> (uint64, uint192):
    """
    @return The last size that this sender anchored of this log, or 0, and the 192 bits of the order so far.
    """
    slot: uint256 = self.slots[sender][origin]
    return convert(slot >> 192, uint64), convert(slot & (2**192 - 1), uint192)


@internal
def _advance(origin: bytes32, size: uint64, root: bytes32):
    before: uint256 = self.slots[msg.sender][origin]
    # Equal is refused too: two roots of one size are a fork.
    assert convert(size, uint256) > before >> 192, "not larger than the last"
    order: uint256 = convert(keccak256(abi_encode(before, size, root)), uint256)
    self.slots[msg.sender][origin] = convert(size, uint256) << 192 | (order & (2**192 - 1))
    log Checkpoint(sender=msg.sender, origin=origin, size=size, root=root)

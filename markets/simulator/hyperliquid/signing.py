"""Who signed a request: Hyperliquid's two schemes of EIP-712, and the address they lead back to.

A trading action is packed with MessagePack in the order of its keys, hashed with the nonce and the
vault, and signed as an `Agent` that names the hash. What moves money or permissions is signed field
by field instead. Nothing in a request says who sent it: whatever signature comes leads to *some*
address, and a wrong one to an address that has no account.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

from coincurve import PublicKey

from markets.simulator.hyperliquid.keccak import keccak256

MAINNET = "a"
_ZERO_ADDRESS = "0x" + "00" * 20
_DOMAIN = keccak256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_AGENT = keccak256(b"Agent(string source,bytes32 connectionId)")
_AGENT_CHAIN = 1337
# The actions that are signed field by field, and the fields in their order.
_BY_FIELD: dict[str, tuple[tuple[str, str], ...]] = {
    "approveBuilderFee": (
        ("string", "hyperliquidChain"),
        ("string", "maxFeeRate"),
        ("address", "builder"),
        ("uint64", "nonce"),
    )
}


class BadSignature(ValueError):
    """A signature that leads to no address at all."""


def signer(request: Mapping[str, Any]) -> str:
    """Return the address whose key signed a request, in lower case; raise BadSignature."""
    action = request["action"]
    if action.get("type") in _BY_FIELD:
        digest = _digest_by_field(action)
    else:
        digest = _digest_of_agent(request)
    return _recovered(digest, request["signature"])


def pack(value: Any) -> bytes:
    """Return a JSON value as MessagePack, each number and length in its shortest form."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return _packed_int(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return _head(len(data), 0xA0, 32, (0xD9, 0xDA, 0xDB)) + data
    if isinstance(value, list):
        return _head(len(value), 0x90, 16, (None, 0xDC, 0xDD)) + b"".join(map(pack, value))
    if isinstance(value, Mapping):
        pairs = b"".join(pack(name) + pack(each) for name, each in value.items())
        return _head(len(value), 0x80, 16, (None, 0xDE, 0xDF)) + pairs
    raise BadSignature(f"a {type(value).__name__} cannot be signed")


def _head(length: int, short: int, limit: int, marks: tuple[int | None, int, int]) -> bytes:
    if length < limit:
        return bytes([short | length])
    one, two, four = marks
    if one is not None and length < 1 << 8:
        return bytes([one, length])
    if length < 1 << 16:
        return bytes([two]) + length.to_bytes(2, "big")
    return bytes([four]) + length.to_bytes(4, "big")


def _packed_int(number: int) -> bytes:
    if -32 <= number < 128:
        return number.to_bytes(1, "big", signed=number < 0)
    for power in range(4):
        size = 1 << power
        if 0 <= number < 1 << (8 * size):
            return bytes([0xCC + power]) + number.to_bytes(size, "big")
        if -(1 << (8 * size - 1)) <= number < 0:
            return bytes([0xD0 + power]) + number.to_bytes(size, "big", signed=True)
    raise BadSignature(f"{number} has more than 64 bits")


def _digest_of_agent(request: Mapping[str, Any]) -> bytes:
    data = pack(request["action"]) + int(request["nonce"]).to_bytes(8, "big")
    vault = request.get("vaultAddress")
    data += b"\x01" + _address(vault)[12:] if vault else b"\x00"
    if request.get("expiresAfter") is not None:
        data += b"\x00" + int(request["expiresAfter"]).to_bytes(8, "big")
    fields = keccak256(MAINNET.encode()) + keccak256(data)
    return _typed("Exchange", _AGENT_CHAIN, keccak256(_AGENT + fields))


def _digest_by_field(action: Mapping[str, Any]) -> bytes:
    name = action["type"]
    fields = _BY_FIELD[name]
    title = f"HyperliquidTransaction:{name[0].upper()}{name[1:]}"
    kind = keccak256(f"{title}({','.join(' '.join(each) for each in fields)})".encode())
    values = b"".join(_encoded(of, action[field]) for of, field in fields)
    chain = int(action["signatureChainId"], 16)
    return _typed("HyperliquidSignTransaction", chain, keccak256(kind + values))


def _encoded(kind: str, value: Any) -> bytes:
    if kind == "string":
        return keccak256(str(value).encode())
    return _address(value) if kind == "address" else int(value).to_bytes(32, "big")


def _typed(domain: str, chain: int, content: bytes) -> bytes:
    return keccak256(b"\x19\x01" + _separator(domain, chain) + content)


@cache
def _separator(domain: str, chain: int) -> bytes:
    names = keccak256(domain.encode()) + keccak256(b"1")
    return keccak256(_DOMAIN + names + chain.to_bytes(32, "big") + _address(_ZERO_ADDRESS))


def _address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x")).rjust(32, b"\x00")


def _recovered(digest: bytes, signature: Mapping[str, Any]) -> str:
    try:
        parts = (int(signature["r"], 16), int(signature["s"], 16))
        raw = b"".join(part.to_bytes(32, "big") for part in parts)
        mark = bytes([int(signature["v"]) - 27])
        key = PublicKey.from_signature_and_message(raw + mark, digest, hasher=None)
    except Exception as error:
        raise BadSignature("the signature leads to no address") from error
    return "0x" + keccak256(key.format(compressed=False)[1:])[12:].hex()

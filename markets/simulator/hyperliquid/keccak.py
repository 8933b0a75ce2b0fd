"""Keccak-256 as Ethereum uses it: SHA-3 before its padding changed, which hashlib does not have."""

from __future__ import annotations

_RATE_BYTES = 136
_WORD = (1 << 64) - 1
_ROUNDS = 24


def _round_constants() -> list[int]:
    """Return the constant of each round, made by the standard's shift register."""
    constants, register = [], 1
    for _ in range(_ROUNDS):
        constant = 0
        for exponent in range(7):
            if register & 1:
                constant |= 1 << ((1 << exponent) - 1)
            register <<= 1
            if register & 0x100:
                register ^= 0x171
        constants.append(constant)
    return constants


def _steps() -> list[tuple[int, int]]:
    """Return the lanes in the order in which rho and pi move them: where to, and turned how far."""
    x, y, moves = 1, 0, []
    for step in range(_ROUNDS):
        x, y = y, (2 * x + 3 * y) % 5
        moves.append((x + 5 * y, (step + 1) * (step + 2) // 2 % 64))
    return moves


_CONSTANTS = _round_constants()
_MOVES = _steps()


def keccak256(message: bytes) -> bytes:
    """Return the 32 bytes of a message's hash."""
    padded = bytearray(message) + bytes(_RATE_BYTES - len(message) % _RATE_BYTES)
    padded[len(message)] ^= 0x01
    padded[-1] ^= 0x80
    lanes = [0] * 25
    for start in range(0, len(padded), _RATE_BYTES):
        for lane in range(_RATE_BYTES // 8):
            at = start + 8 * lane
            lanes[lane] ^= int.from_bytes(padded[at : at + 8], "little")
        _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def _permute(lanes: list[int]) -> None:
    for constant in _CONSTANTS:
        columns = [
            lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20]
            for x in range(5)
        ]
        for x in range(5):
            parity = columns[(x + 4) % 5] ^ _turned(columns[(x + 1) % 5], 1)
            for place in range(x, 25, 5):
                lanes[place] ^= parity
        carried = lanes[1]
        for place, distance in _MOVES:
            lanes[place], carried = _turned(carried, distance), lanes[place]
        for start in range(0, 25, 5):
            row = lanes[start : start + 5]
            for x in range(5):
                lanes[start + x] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5] & _WORD)
        lanes[0] ^= constant


def _turned(lane: int, distance: int) -> int:
    return ((lane << distance) | (lane >> (64 - distance))) & _WORD

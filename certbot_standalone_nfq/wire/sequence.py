"""Arithmetic on TCP sequence numbers, which are 32 bits wide and wrap around (RFC 9293, 3.4)."""

_MODULUS = 1 << 32
_HALF = 1 << 31


def advance(number: int, octets: int) -> int:
    """Return the sequence number `octets` after `number` (before it, if negative)."""
    return (number + octets) % _MODULUS


def distance(start: int, end: int) -> int:
    """Return how many octets `end` lies after `start`: from -2**31 up to 2**31 - 1."""
    return (end - start + _HALF) % _MODULUS - _HALF

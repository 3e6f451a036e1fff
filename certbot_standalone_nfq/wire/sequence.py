"""Arithmetic on TCP sequence numbers, which are 32 bits wide and wrap around (RFC 9293, 3.4)."""

_MODULUS = 1 << 32
_HALF = 1 << 31


def advance(number: int, count: int) -> int:
    """Return the sequence number `count` bytes after `number`, or before it if negative."""
    return (number + count) % _MODULUS


def distance(start: int, end: int) -> int:
    """Return how many bytes `end` lies after `start`: from -2**31 up to 2**31 - 1."""
    return (end - start + _HALF) % _MODULUS - _HALF

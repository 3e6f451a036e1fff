"""Selectors as nft's rules: they send a segment to the chain `found` if its payload begins as one of them says.

Few bystanders' segments get further than the first rules, which compare the payload's first byte. A text or binary
PROXY header is not skipped: a segment that begins with one is found, whatever follows, or if it contains what all
selectors search for.

A search loads parts of a payload at distances at which any occurrence has one of them whole, and looks them up in the
set of parts that an occurrence can have there. Datagrams are whole, so one rule for each alternative is enough.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence

from certbot_standalone_nfq.engine.protocols import LONGEST_HEADER, SEARCHED, Field, Selector
from certbot_standalone_nfq.wire.proxy_protocol import BINARY_SIGNATURE, TEXT_BEGINNING

_WORD = 4
_MAX_LOAD = 16  # NFT_REG_SIZE, include/uapi/linux/netfilter/nf_tables.h
_UDP_HEADER = 8
_TCP_HEADER_WORDS = range(5, 16)
_PART = 8
"""Bytes to look up at once, which hardly any other payload has."""

Alternative = tuple[Field, ...]

_PROXY_HEADERS: tuple[Alternative, ...] = ((Field(0, BINARY_SIGNATURE),), (Field(0, TEXT_BEGINNING),))


class Payload(enum.Enum):
    """How a rule finds the TCP payload."""

    INNER_HEADER = enum.auto()
    """By the kernel: what is behind the TCP header, from Linux 5.16 and nft 1.0.1 on."""
    TRANSPORT_HEADER = enum.auto()
    """By one set of rules for each length that a TCP header can have."""


def chains(selectors: Sequence[Selector], payload: Payload) -> Iterator[tuple[str, list[str]]]:
    """Yield the chains that `rules` go to, each before those that go to it."""
    yield from _search_chains(selectors, payload)
    if payload is Payload.INNER_HEADER:
        yield from _compare_chains(selectors, "ih", 0, "")
        return
    for words in _TCP_HEADER_WORDS:
        yield from _compare_chains(selectors, "th", words * _WORD, f"{words}")
        yield f"payload{words}", _begins(selectors, "th", words * _WORD, f"{words}")


def rules(selectors: Sequence[Selector], payload: Payload) -> list[str]:
    """Return the rules that look at a packet."""
    if payload is Payload.INNER_HEADER:
        return _begins(selectors, "ih", 0, "")
    by_length = ", ".join(f"{words} : goto payload{words}" for words in _TCP_HEADER_WORDS)
    return [f"tcp doff vmap {{ {by_length} }}"]


def datagram_rules(selectors: Sequence[Selector], verdict: str) -> list[str]:
    """Return the rules that give a verdict on a datagram whose payload is selected."""
    return [f"{_condition(alternative, 'th', _UDP_HEADER)} {verdict}" for alternative in _alternatives(selectors)]


def _compare_chains(
    selectors: Sequence[Selector], header: str, offset: int, name: str
) -> Iterator[tuple[str, list[str]]]:
    targets = [_target(selectors, selector) for selector in selectors for _ in selector.any_of]
    for number, (alternative, target) in enumerate(zip(_alternatives(selectors), targets)):
        yield _compare_chain(name, number), _compare(alternative, header, offset, target)


def _searched(selectors: Sequence[Selector]) -> list[bytes]:
    return list(dict.fromkeys(selector.contains for selector in selectors if selector.contains))


def _target(selectors: Sequence[Selector], selector: Selector) -> str:
    """Return the chain that a payload goes to that begins as a selector says."""
    return f"search{_searched(selectors).index(selector.contains)}" if selector.contains else "found"


def _search_chains(selectors: Sequence[Selector], payload: Payload) -> Iterator[tuple[str, list[str]]]:
    """Yield the chains that search payloads, and those behind a PROXY header to its end and further."""
    header, first, last = ("ih", 0, 0) if payload is Payload.INNER_HEADER else ("th", 5 * _WORD, 15 * _WORD)
    for number, wanted in enumerate(_searched(selectors)):
        end = last + SEARCHED
        yield f"search{number}", _search(wanted, header, range(first, end))
        if any(selector.after_proxy_header for selector in selectors):
            further = _search(wanted, header, range(end - len(wanted), end + LONGEST_HEADER))
            yield f"search{number}-proxied", [f"jump search{number}", *further]


def _search(wanted: bytes, header: str, within: range) -> list[str]:
    size = min(_PART, len(wanted))
    parts = [wanted[begin : begin + size] for begin in range(len(wanted) - size + 1)]
    listed = ", ".join(dict.fromkeys(f"0x{part.hex()}" for part in parts))
    offsets = range(within.start, within.stop - size + 1, len(parts))
    return [f"@{header},{offset * 8},{size * 8} {{ {listed} }} goto found" for offset in offsets]


def _alternatives(selectors: Sequence[Selector]) -> list[Alternative]:
    return [alternative for selector in selectors for alternative in selector.any_of]


def _compare_chain(name: str, number: int) -> str:
    return f"compare{name}" + (f"-{number}" if number else "")


def _begins(selectors: Sequence[Selector], header: str, offset: int, name: str) -> list[str]:
    """Return the rules for a payload's first byte, and for a PROXY header.

    A chain that is jumped to comes back if it finds nothing, which is needed only if a later rule could still match.
    """
    alternatives = _alternatives(selectors)
    proxied = [selector for selector in selectors if selector.after_proxy_header]
    proxies = _PROXY_HEADERS if proxied else ()
    found: list[str] = []
    for number, alternative in enumerate(alternatives):
        later = (*alternatives[number + 1 :], *proxies)
        verb = "goto" if all(_exclude_each_other(alternative, other) for other in later) else "jump"
        condition = _condition(_cut(alternative, 1), header, offset)
        found.append(f"{condition} {verb} {_compare_chain(name, number)}")
    verdicts = ["goto found"]
    if proxied and all(selector.contains for selector in proxied):
        verdicts = [f"jump {target}-proxied" for target in dict.fromkeys(_target(selectors, each) for each in proxied)]
    return [*found, *(f"{_condition(proxy, header, offset)} {verdict}" for proxy in proxies for verdict in verdicts)]


def _exclude_each_other(one: Alternative, other: Alternative) -> bool:
    """Whether no payload's first byte agrees with both."""
    return any((a.value[0] ^ b.value[0]) & _mask(a)[0] & _mask(b)[0] for a in _cut(one, 1) for b in _cut(other, 1))


def _compare(alternative: Alternative, header: str, offset: int, target: str) -> list[str]:
    """Return the rules that find a payload that agrees with an alternative, be it cut.

    Of one that is cut, whole words are compared, and bytes below one word: the engine compares the rest. A load beyond
    the packet's end ends a rule without a match, so the whole is tried first, then less and less of it.
    """
    found: list[str] = []
    tried: Alternative | None = None
    for length in _lengths(max((_end(field) for field in alternative), default=0)):
        cut = _cut(alternative, length)
        if cut == tried:
            continue
        if tried:
            found.append(f"{_has_byte(header, offset + max(map(_end, tried)) - 1)} return")
        found.append(f"{_condition(cut, header, offset)} goto {target}")
        tried = cut
    return found


def _lengths(whole: int) -> list[int]:
    """Return how much to compare: all, whole words, single bytes; and nothing, where the first field comes later."""
    words = range((whole - 1) // _WORD * _WORD, 0, -_WORD)
    return [whole, *words, *range(min(whole, _WORD) - 1, 0, -1)]


def _cut(alternative: Alternative, length: int) -> Alternative:
    """Return what an alternative asks of a payload's first bytes."""
    sizes = [max(0, length - field.offset) for field in alternative]
    cut = [Field(f.offset, f.value[:size], _mask(f)[:size]) for f, size in zip(alternative, sizes)]
    return tuple(field for field in cut if any(field.mask))


def _end(field: Field) -> int:
    return field.offset + len(field.value)


def _mask(field: Field) -> bytes:
    return field.mask or b"\xff" * len(field.value)


def _condition(alternative: Alternative, header: str, offset: int) -> str:
    """Return the condition that fields agree, in as few loads as there can be; of none, that there is a payload."""
    loads = [load for field in alternative for load in _loads(field, header, offset)]
    return " ".join(loads) or _has_byte(header, offset)


def _loads(field: Field, header: str, offset: int) -> Iterable[str]:
    for begin in range(0, len(field.value), _MAX_LOAD):
        value, mask = (octets[begin : begin + _MAX_LOAD] for octets in (field.value, _mask(field)))
        where = f"@{header},{(offset + field.offset + begin) * 8},{len(value) * 8}"
        if mask == b"\xff" * len(value):
            yield f"{where} 0x{value.hex()}"
        elif any(mask):
            yield f"{where} & 0x{mask.hex()} == 0x{bytes(a & b for a, b in zip(value, mask)).hex()}"


def _has_byte(header: str, offset: int) -> str:
    return f"@{header},{offset * 8},8 >= 0"

"""What the CA says about a failure: its problem document, read by the words of CAs that we know."""

from __future__ import annotations

import re
from dataclasses import dataclass

from certbot_standalone_nfq.wire.addresses import is_address


@dataclass(frozen=True)
class Problem:
    """The CA's problem document (RFC 7807; RFC 8555, 6.7)."""

    kind: str = ""
    """The last part of its type, such as `connection`, `dns`, `caa`."""
    detail: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that the CA says it connected to, if its words are known to us."""
        found = (match for pattern in _SPOKEN_TO for match in pattern.findall(self.detail))
        return tuple(dict.fromkeys(address for address in found if is_address(address)))

    def is_of_the_name(self, name: str) -> bool:
        """Whether the CA could not look a name up, or may not certify it whatever it finds."""
        if self.other_name(name):
            return False
        return self.kind in ("dns", "caa", "dnssec") or _NOT_LOOKED_UP.search(self.detail) is not None

    def other_name(self, name: str) -> str | None:
        """Return the name that the CA could not look up, if neither this one nor a parent: a redirect's target."""
        found = _LOOKED_UP.search(self.detail)
        other = found.group(1).lower().strip(".") if found else ""
        name = name.lower().strip(".")
        return other if other and name != other and not name.endswith(f".{other}") else None

    @property
    def waited_for_an_answer(self) -> bool:
        """Whether the CA says that it had a connection, and received nothing over it in time."""
        return _NO_RESPONSE.search(self.detail) is not None

    @property
    def was_refused(self) -> bool:
        """Whether the CA says that a connection was refused."""
        return _REFUSED.search(self.detail) is not None

    @property
    def was_redirected(self) -> bool:
        """Whether the CA mentions a redirect, or another scheme than the one it begins with."""
        return _ELSEWHERE.search(self.detail) is not None

    @property
    def is_of_signatures(self) -> bool:
        """Whether the CA's resolver refused what it got, as it does with what should be signed."""
        return self.kind == "dnssec" or _REFUSED_ANSWER.search(self.detail) is not None

    @property
    def found_no_answer(self) -> bool:
        """Whether the CA looked up the records of dns-01, and was told that there are none, or others."""
        return _NO_RECORD.search(self.detail) is not None

    @property
    def met_other_tls(self) -> bool:
        """Whether the CA says that it shook hands with something that does not know tls-alpn-01's protocol."""
        return _OTHER_TLS.search(self.detail) is not None

    @property
    def met_another_server(self) -> bool:
        """Whether the CA says that it met another server's refusal of tls-alpn-01's protocol, or its certificate."""
        return _ANOTHER_SERVER.search(self.detail) is not None

    @property
    def met_no_tls(self) -> bool:
        """Whether the CA says that it was not answered by TLS."""
        return _NO_TLS.search(self.detail) is not None


# What Boulder (va/http.go, va/tlsalpn.go, va/va.go, bdns/problem.go), smallstep's validator and Go's own packages, as
# Pebble and others pass it on, say in these cases.
_NOT_LOOKED_UP = re.compile(r"could not resolve|NXDOMAIN|SERVFAIL|DNS problem|[Nn]o valid (A|IP)")
_LOOKED_UP = re.compile(r"(?:looking up \S+ for|found for) ([A-Za-z0-9.-]+)")
_NO_RESPONSE = re.compile(r"awaiting headers|[Tt]imeout (?:after connect|during read)")
_REFUSED = re.compile(r"[Cc]onnection refused")
_ELSEWHERE = re.compile(
    r"Fetching https://|Invalid response from https://|^Get \"https://|[Rr]edirect loop detected|[Tt]oo many redirects"
    r"|in redirect target"
)
_OTHER_TLS = re.compile(r"[Cc]annot negotiate ALPN")
_ANOTHER_SERVER = re.compile(r"no application protocol|[Ii]ncorrect (?:validation )?certificate")
_NO_TLS = re.compile(r"only speaks HTTP, not TLS|does not look like a TLS handshake")
_SPOKEN_TO = (
    re.compile(r"^(?:During secondary validation: )?([0-9a-fA-F:.]+): "),  # Boulder
    re.compile(r"Failed to connect to \[?([0-9a-fA-F:.]+?)\]?:\d+ "),  # Pebble, of tls-alpn-01
    re.compile(r"(?:dial tcp |->)([0-9.]+):\d+"),  # Go's net.OpError, as Pebble passes it on
    re.compile(r"(?:dial tcp |->)\[([0-9a-fA-F:.]+)\]:\d+"),
)
# What Boulder (va/dns.go), Pebble (va/va.go) and smallstep's authority say of dns-01.
# Pebble shows response codes by their numbers: 2 is SERVFAIL, 3 NXDOMAIN.
_REFUSED_ANSWER = re.compile(r"SERVFAIL|DNSSEC|[Bb]ogus|server misbehaving|unsuccessful response: '\\+x02'")
_NO_RECORD = re.compile(
    r"NXDOMAIN|[Nn]o TXT record|Incorrect TXT record|Correct value not found|no such host"
    r"|unsuccessful response: '\\+x03'"
)

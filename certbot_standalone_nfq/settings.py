"""What the user may choose. Each option is defined here, and nowhere else.

Certbot's parser, the check of values and the list of options in the package's docstring all come from `OPTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from certbot_standalone_nfq import errors

HTTP_01 = "http-01"
TLS_ALPN_01 = "tls-alpn-01"
DNS_01 = "dns-01"
DEFAULT_PORTS: Mapping[str, int] = {HTTP_01: 80, TLS_ALPN_01: 443, DNS_01: 53}
"""The port that validators connect to, for each type of challenge: RFC 8555, 8.3 and 8.4; RFC 8737, 3."""
AUTO = "auto"
CAPTURES = ("iptables", "iptables-nft", "iptables-legacy", "ebpf", "nftables")
"""In the order in which they are tried: the administrator's own choice of iptables first, unless the situation speaks
for a way that needs no connection tracking. Each is named like its folder below `capture/`, and a hyphen and more if
there are several in it."""
QUEUE_CLIENTS = ("netlink", "fnfqueue")
SELECTIONS = ("prefilter", "port", "stateless-port")
"""In the order in which they are tried; each needs less of the kernel than the one before."""


def number(text: str) -> int:
    """Read a number in decimal, or in hexadecimal after 0x. Raises ValueError."""
    return int(text, 0)


@dataclass(frozen=True)
class Option:
    """One option of the plugin."""

    name: str
    """As on the command line, behind `--standalone-nfq-`."""
    help: str
    """What it is for and what its default means, without a full stop."""
    choices: tuple[str, ...] = ()
    """All values, the default first."""
    metavar: str = ""
    type: Callable[[str], Any] | None = None
    allows: Callable[[Any], bool] = lambda _: True
    """Whether a value can be used."""
    wanted: str = ""
    """What values `allows` asks for, in words that complete 'Give ...'."""
    show: Callable[[Any], str] = str
    """How to show a value in an error message."""

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that `argparse` takes for it."""
        if self.choices:
            return {"help": self.help, "default": self.choices[0], "choices": list(self.choices)}
        if self.metavar:
            return {"help": self.help, "default": None, "metavar": self.metavar, "type": self.type or str}
        return {"help": self.help, "default": False, "action": "store_true"}

    def check(self, value: Any) -> None:
        """Raise errors.BadOption if a value that the parser has read cannot be used."""
        if value is not None and not self.allows(value):
            raise errors.invalid_option(self.name, self.show(value), self.wanted)


def _port_option(typ: str) -> Option:
    return Option(
        f"{typ}-port",
        f"Port that clients address, on which {typ} is validated (default: {DEFAULT_PORTS[typ]})",
        metavar="PORT",
        type=number,
        allows=lambda port: 0 < port <= 0xFFFF,
        wanted="a number from 1 to 65535",
    )


OPTIONS = (
    *(_port_option(typ) for typ in DEFAULT_PORTS if typ != HTTP_01),  # Certbot has an option for that one itself
    Option(
        "capture",
        "How to capture packets: by rules of a firewall program, or by eBPF (default: the first of these that works, "
        "and eBPF before all others where connections are not tracked, or should not be)",
        choices=(AUTO, *CAPTURES),
    ),
    Option(
        "queue-num",
        "NFQUEUE number to use, and the next one if challenges are on two ports (default: free ones of 28080 to 28083)",
        metavar="NUMBER",
        type=number,
        allows=lambda queue: 0 <= queue <= 0xFFFF,
        wanted="a number from 0 to 65535",
    ),
    Option(
        "mark",
        "Two bits of the packet and connection mark (default: 0x30000000, or others if a rule uses these)",
        metavar="MASK",
        type=number,
        allows=lambda mark: 0 < mark < 1 << 32 and bin(mark).count("1") == 2,
        wanted="a mask of exactly two of 32 bits, like 0x30000000",
        show=hex,
    ),
    Option(
        "queue-client",
        "What to receive packets with (default: the fnfqueue package if installed, else the built-in client)",
        choices=(AUTO, *QUEUE_CLIENTS),
    ),
    Option(
        "selection",
        "Which packets to look at (default: the first of these that the kernel can do): those that a prefilter in the "
        "kernel picks, all of the port, or all of the port without connection tracking",
        choices=(AUTO, *SELECTIONS),
    ),
    Option(
        "pcap",
        "File to write the validation's packets to, for Wireshark or tcpdump (default: none)",
        metavar="FILE",
    ),
    Option(
        "no-evidence", "Do not look at connections to the port from outside, which explain a failure (default: look)"
    ),
)


@dataclass(frozen=True)
class Settings:
    """What the user chose; everything but the ports finds itself."""

    ports: Mapping[str, int] = field(default_factory=lambda: DEFAULT_PORTS)
    """For each type of challenge."""
    address: str = ""
    """The only address to listen at for http-01 where nothing else does; empty for all."""
    queue: int | None = None
    mark: int | None = None
    """A mask of two bits."""
    capture: str = AUTO
    queue_client: str = AUTO
    selection: str = AUTO
    pcap: Path | None = None
    """The capture file to write."""
    evidence: bool = True
    """Whether to look at connections to the port from outside."""
    lasting: bool = False
    """Whether to capture for days, not for one validation: only what the kernel picks, and rules that other programs
    remove are added again however often."""

    @property
    def asks_for_a_queue(self) -> bool:
        """Whether an option was given that means something only with NFQUEUE."""
        return self.queue is not None or self.mark is not None or {self.queue_client, self.selection} != {AUTO}

    @classmethod
    def chosen(cls, port: int, address: str | None, value_of: Callable[[str], Any]) -> Settings:
        """Return what the options say, given a function from an option's name to its value.

        Raises errors.BadOption.
        """
        values = {option.name: value_of(option.name) for option in OPTIONS}
        for option in OPTIONS:
            option.check(values[option.name])
        chosen = {typ: value_of(f"{typ}-port") or number for typ, number in DEFAULT_PORTS.items() if typ != HTTP_01}
        return cls(
            ports={HTTP_01: port, **chosen},
            address=address or "",
            queue=values["queue-num"],
            mark=values["mark"],
            capture=values["capture"],
            queue_client=values["queue-client"],
            selection=values["selection"],
            pcap=Path(values["pcap"]) if values["pcap"] else None,
            evidence=not values["no-evidence"],
        )

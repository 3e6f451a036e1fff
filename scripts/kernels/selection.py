"""Which kernels there are, and which tests are run on each with which firewall."""

from __future__ import annotations

from dataclasses import dataclass

SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "sid": "sid"}
"""Debian's releases that kernels are taken from."""

IN_SHORT = ("5.10", "6.12")
CAPTURES = ("iptables-nft", "iptables-legacy", "nftables", "ebpf")
_WITH_ALL = {
    "5.10": ("iptables-legacy", "ebpf"),
    "6.1": ("iptables-nft", "ebpf"),
    "6.12": ("nftables", "ebpf"),
    "sid": ("iptables-nft", "ebpf"),
}
"""What each kernel runs the whole network suite with. Firewalls have their turn, the usual ones at its age; eBPF has it
always, as it depends on the kernel most."""

_NETWORK_SUITE = "tests/netns"
_PARTS = ("tests/capture", "tests/host", "tests/session", "tests/cli/doctor/test_network_namespace.py")
_ISSUANCE = "tests/e2e/test_certbot.py::test_a_certificate_is_issued_over_both_families_by_each_firewall"
_BY_THEMSELVES = (
    "tests/netns/test_fallback_listener.py",
    "tests/netns/test_proxied.py::test_only_a_text_header_has_iptables_queue_a_bystander",
)
_POSSIBLE = "not anywhere and not heavy"


@dataclass(frozen=True)
class Round:
    """One run of pytest on a kernel."""

    firewall: str
    """The one that is used; empty where the tests themselves use one after the other."""
    selected: str
    """Which of the tests: all, or those with a mark."""
    options: tuple[str, ...]
    """Of pytest."""
    named: str = ""
    """What else selects tests: the expression of pytest's option -k."""

    @property
    def name(self) -> str:
        """What the matrix calls it by, besides the kernel."""
        return self.firewall or "each"


def whole_rounds(kernel: str) -> list[Round]:
    """Return what finds all that a kernel can change: the suite with one firewall, what depends on it with each."""
    return [
        *(_everything(each) if each in _WITH_ALL[kernel] else _marked("firewall", each) for each in CAPTURES),
        Round("", "all", ("-m", _POSSIBLE, *_PARTS, *_BY_THEMSELVES)),
    ]


def short_rounds() -> list[Round]:
    """Return what is the same on every kernel, and shows within minutes that nothing is broken."""
    return [_marked("essential", each) for each in CAPTURES]


def _everything(capture: str) -> Round:
    others = (f"--deselect={each}" for each in _BY_THEMSELVES)
    # All other tests are the same ones as in the firewall's round.
    named = "ebpf" if capture == "ebpf" else ""
    return Round(capture, "all", ("-m", _POSSIBLE, _NETWORK_SUITE, _ISSUANCE, *others), named)


def _marked(mark: str, firewall: str) -> Round:
    return Round(firewall, mark, ("-m", f"{mark} and {_POSSIBLE}", _NETWORK_SUITE, _ISSUANCE))

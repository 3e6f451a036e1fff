"""Which kernels there are, and which tests are run on each with which firewall."""

from __future__ import annotations

from dataclasses import dataclass

SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "sid": "sid"}
"""Debian's releases that kernels are taken from."""

IN_SHORT = ("5.10", "6.12")
FIREWALLS = ("iptables-nft", "iptables-legacy", "nftables", "ebpf")
_WITH_ALL = {"5.10": "iptables-legacy", "6.1": "iptables-nft", "6.12": "nftables", "sid": "iptables-nft"}
"""The firewall that each kernel runs the whole network suite with: all have their turn, the usual ones at its age."""

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
    title: str = "each"
    """What the matrix calls it by, if it has no firewall of its own."""

    @property
    def name(self) -> str:
        """What the matrix calls it by, besides the kernel."""
        return self.firewall or self.title


def whole_rounds(kernel: str) -> list[Round]:
    """Return what finds all that a kernel can change: the suite with one firewall, what depends on it with each."""
    return [
        *(_everything(each) if each == _WITH_ALL[kernel] else _marked("firewall", each) for each in FIREWALLS),
        Round("", "all", ("-m", _POSSIBLE, *_PARTS, *_BY_THEMSELVES)),
        _by_ebpf(_POSSIBLE, "all"),
    ]


def short_rounds() -> list[Round]:
    """Return what is the same on every kernel, and shows within minutes that nothing is broken."""
    return [*(_marked("essential", each) for each in FIREWALLS), _by_ebpf(f"essential and {_POSSIBLE}", "essential")]


def _everything(firewall: str) -> Round:
    others = (f"--deselect={each}" for each in _BY_THEMSELVES)
    return Round(firewall, "all", ("-m", _POSSIBLE, _NETWORK_SUITE, _ISSUANCE, *others))


def _marked(mark: str, firewall: str) -> Round:
    return Round(firewall, mark, ("-m", f"{mark} and {_POSSIBLE}", _NETWORK_SUITE, _ISSUANCE))


def _by_ebpf(mark: str, selected: str) -> Round:
    """Return the round of the tests that are for eBPF, or are done with each way to capture, with eBPF alone."""
    return Round("", selected, ("-m", mark, "-k", "ebpf", _NETWORK_SUITE, _ISSUANCE), title="ebpf")

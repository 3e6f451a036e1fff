"""The rules for datagrams as text, and in a real kernel, by both variants of iptables."""

from __future__ import annotations

import socket

import pytest

from certbot_standalone_nfq.capture.bpf import selector
from certbot_standalone_nfq.capture.iptables import rules
from certbot_standalone_nfq.capture.iptables.backend import IptablesWriter
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, RunId, Selection
from certbot_standalone_nfq.challenges.dns01.solver import Dns01Solver
from certbot_standalone_nfq.engine.protocols import Transport
from lab.hosts import Host

CHAIN = "CERTBOT-NFQ-28080-0f1e"
SELECTORS = Dns01Solver.selectors(53)


def allocation(selection: Selection = Selection.PREFILTER) -> Allocation:
    return Allocation(SELECTORS, RunId(28080, "0f1e"), Marks(0x10000000, 0x20000000), selection)


@pytest.mark.anywhere
@pytest.mark.parametrize("family", [4, 6])
def test_only_selected_datagrams_go_on_to_the_chain_that_queues_them(family: int) -> None:
    (wanted,) = allocation().selectors_over(Transport.UDP)
    lines = rules.install_script(allocation(), family).splitlines()
    assert f":{CHAIN}-UDP - [0:0]" in lines
    assert [line for line in lines if line.startswith(f"-A {CHAIN}-UDP ")] == [
        f'-A {CHAIN}-UDP -m bpf --bytecode "{selector.bytecode(wanted, family)}" -g {CHAIN}'
    ]
    assert [line for line in lines if line.startswith(f"-A {CHAIN} ")][:2] == [
        f"-A {CHAIN} -m mark --mark 0x20000000/0x20000000 -g {CHAIN}-OUT",
        f"-A {CHAIN} -p udp -j NFQUEUE --queue-num 28080 --queue-bypass",
    ]
    assert {line.split()[-1] for line in lines if line.startswith("-I") and " udp " in line} == {f"{CHAIN}-UDP"}


@pytest.mark.anywhere
@pytest.mark.parametrize("selection", [Selection.PORT, Selection.STATELESS_PORT])
def test_where_the_whole_port_is_queued_every_datagram_goes_on(selection: Selection) -> None:
    lines = rules.install_script(allocation(selection), 4).splitlines()
    assert f"-A {CHAIN}-UDP -g {CHAIN}" in lines
    assert "bpf" not in "".join(lines)


def test_a_datagram_of_another_client_meets_a_single_rule(writer: IptablesWriter, lonely_host: Host) -> None:
    writer.install(allocation(), hold_open=0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(10):
            client.sendto(bytes(40), ("127.0.0.1", 53))
    listed = lonely_host.run(writer.name, "-t", "mangle", "-nvxL")
    jumps, ours, first = (f"Chain {name}" for name in ("INPUT", f"{CHAIN} ", f"{CHAIN}-UDP"))
    assert counted(listed, jumps, f"{CHAIN}-UDP") == [0, 10]
    assert counted(listed, first, CHAIN) == [0]
    assert set(counted(listed, ours, "")) == {0}


def counted(listed: str, chain: str, target: str) -> list[int]:
    """Return how many packets met the rules of a chain that go to a target."""
    (part,) = (part for part in listed.split("\n\n") if part.startswith(chain))
    return [int(line.split()[0]) for line in part.splitlines()[2:] if target in line.split()[2]]


@pytest.mark.parametrize("selection", Selection)
@pytest.mark.parametrize(
    "damage", [(), ("-D", "INPUT", "1"), ("-F", CHAIN), ("-F", f"{CHAIN}-UDP"), ("-F", "INPUT"), ("-F",)]
)
def test_the_rules_are_removed_whatever_is_missing_of_them(
    writer: IptablesWriter, lonely_host: Host, selection: Selection, damage: tuple[str, ...]
) -> None:
    before = lonely_host.rules()
    for removed in (lambda: writer.withdraw(allocation(selection)), lambda: writer.remove(RunId(28080, "0f1e"), 53)):
        writer.install(allocation(selection), hold_open=0)
        if damage:
            lonely_host.run(writer.name, "-t", "mangle", *damage)
        removed()
        assert lonely_host.rules() == before

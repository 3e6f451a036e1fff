"""Which interfaces are looked at, and with which program."""

from __future__ import annotations

from pathlib import Path

import pytest

from certbot_standalone_nfq.capture.ebpf.interfaces import Place, bridges_filter, places
from certbot_standalone_nfq.host.links import Link

ETHERNET, LOOPBACK, TUNNEL, NETLINK = 1, 772, 0xFFFE, 824


def link(kind: str = "", port_of: str = "", hardware: int = ETHERNET) -> Link:
    return Link(7, "name", hardware, True, kind, port_of)


@pytest.mark.parametrize(
    ("found", "link_header"),
    [
        (link(), 14),
        (link(hardware=LOOPBACK), 14),
        (link("vlan"), 14),
        (link("macvlan"), 14),
        (link("bond"), 14),
        (link("vrf"), 14),
        (link(port_of="vrf"), 14),
        (link("tun", hardware=TUNNEL), 0),
        (link("wireguard", hardware=TUNNEL), 0),
    ],
)
def test_an_interface_is_looked_at_by_the_program_for_its_links(found: Link, link_header: int) -> None:
    for whether in (False, True):
        assert list(places([found], bridges_filter=whether)) == [Place(7, link_header, False)]


@pytest.mark.parametrize("found", [link(port_of="bond"), link(port_of="team"), link("nlmon", hardware=NETLINK)])
def test_what_another_interface_shows_and_what_is_no_network_is_not(found: Link) -> None:
    assert not places([found], bridges_filter=False)


def test_of_a_bridge_either_itself_or_its_ports_are_looked_at() -> None:
    assert list(places([link("bridge")], bridges_filter=False)) == [Place(7, 14, False)]
    assert not places([link("bridge")], bridges_filter=True)
    assert not places([link("veth", "bridge")], bridges_filter=False)
    assert list(places([link("veth", "bridge")], bridges_filter=True)) == [Place(7, 14, True)]


def test_bridges_filter_if_either_of_their_settings_says_so(tmp_path: Path) -> None:
    assert not bridges_filter(tmp_path)
    (tmp_path / "bridge-nf-call-iptables").write_text("0\n")
    assert not bridges_filter(tmp_path)
    (tmp_path / "bridge-nf-call-ip6tables").write_text("1\n")
    assert bridges_filter(tmp_path)

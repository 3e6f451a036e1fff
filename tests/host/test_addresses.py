from __future__ import annotations

from certbot_standalone_nfq.host.addresses import has_ipv6
from lab.hosts import Host


def test_ipv6_is_there_if_an_interface_has_an_address(lonely_host: Host) -> None:
    with lonely_host.inside():
        assert has_ipv6()
        lonely_host.run("sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=1")
        assert not has_ipv6()

"""What tests of iptables' rules share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from certbot_standalone_nfq.capture.iptables.backend import IptablesWriter
from lab.hosts import Host
from lab.interceptor import IPTABLES


@pytest.fixture(params=IPTABLES)
def writer(request: pytest.FixtureRequest, lonely_host: Host) -> Iterator[IptablesWriter]:
    with lonely_host.inside():
        yield IptablesWriter(request.param)

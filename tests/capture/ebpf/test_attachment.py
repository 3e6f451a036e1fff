"""Programs at the traffic control hooks: by TCX, by stubs, and what is left of either."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.ebpf import filters, system
from certbot_standalone_nfq.capture.ebpf.assembler import R0, Assembler
from certbot_standalone_nfq.capture.ebpf.attachment import Direction, attach
from lab import hosts
from lab.ebpf import without_tcx
from lab.hosts import Host
from lab.processes import running, wait_until

PASSES, DROPS = -1, 2
HOOKS = ("ingress", "egress")


def program(returns: int) -> int:
    code = Assembler()
    code.set(R0, returns)
    code.exit()
    return system.load_program(code.assemble(), "test")


@pytest.fixture
def owner(pair: tuple[Host, Host]) -> Iterator[filters.Owner]:
    with pair[1].inside():
        made = filters.Owner()
    yield made
    made.close()


def kernel() -> tuple[int, ...]:
    """Return this kernel's version, as two numbers."""
    return tuple(int(number) for number in platform.release().split(".")[:2])


@pytest.fixture(params=["tcx", "stub"] if kernel() >= (6, 6) else ["stub"])  # Linux 6.6 brought TCX
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "stub":
        monkeypatch.setattr(system, "call", without_tcx(system.call))
    return str(request.param)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "call", without_tcx(system.call))


def there(host: Host) -> list[str]:
    """Return the qdisc and the filters at a host's eth0, but for what every interface has."""
    found = host.run("tc", "qdisc", "show", "dev", "eth0").splitlines()
    shown = [line for line in found if "clsact" in line or "ingress" in line]
    for hook in HOOKS:
        filters_ = json.loads(host.run("tc", "-j", "filter", "show", "dev", "eth0", hook) or "[]")
        shown += [f"{hook} {each['options'].get('bpf_name', each['kind'])}" for each in filters_ if "options" in each]
    return shown


def answers(pair: tuple[Host, Host]) -> bool:
    """Whether packets pass: nothing listens, and the server says so."""
    try:
        pair[0].connect(pair[1].ipv4, timeout=1)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    raise AssertionError("something listens")


@pytest.mark.parametrize("direction", Direction)
def test_a_program_decides_on_packets_until_it_is_detached(
    pair: tuple[Host, Host], owner: filters.Owner, way: str, direction: Direction
) -> None:
    with pair[1].inside():
        attached = attach(socket.if_nametoindex("eth0"), direction, program(DROPS), owner)
        assert bool(there(pair[1])) == (way == "stub")
    assert not answers(pair)
    with pair[1].inside():
        attached.close()
        attached.close()
    wait_until(lambda: answers(pair), "packets pass")
    assert there(pair[1]) == []


def test_two_owners_share_an_interface_and_none_removes_the_others(
    pair: tuple[Host, Host], owner: filters.Owner, way: str
) -> None:
    with pair[1].inside(), contextlib.closing(filters.Owner()) as another:
        index = socket.if_nametoindex("eth0")
        first = attach(index, Direction.INGRESS, program(DROPS), owner)
        second = attach(index, Direction.INGRESS, program(PASSES), another)
        second.close()
        assert not answers(pair)
        first.close()
    wait_until(lambda: answers(pair), "packets pass")


_VICTIM = """
import socket, sys, time
sys.path.insert(0, "")
from tests.capture.ebpf import test_attachment as test
if sys.argv[1] == "stub":
    test.system.call = test.without_tcx(test.system.call)
owner = test.filters.Owner()
for direction in test.Direction:
    held = test.attach(socket.if_nametoindex("eth0"), direction, test.program(test.DROPS), owner)
print("attached", flush=True)
time.sleep(60)
"""


def killed(host: Host, way: str) -> None:
    """Attach in a process of its own, and kill it."""
    with running(host.command(sys.executable, "-c", _VICTIM, way), stdout=subprocess.PIPE) as victim:
        assert victim.stdout
        assert victim.stdout.readline() == "attached\n"
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait(10)


def test_after_sigkill_packets_pass_and_the_next_run_removes_what_is_left(
    pair: tuple[Host, Host], owner: filters.Owner, way: str
) -> None:
    killed(pair[1], way)
    wait_until(lambda: answers(pair), "packets pass")
    assert len(there(pair[1])) == (3 if way == "stub" else 0)
    with pair[1].inside():
        attach(socket.if_nametoindex("eth0"), Direction.INGRESS, program(PASSES), owner).close()
    assert there(pair[1]) == []


def filter_packets(host: Host, hook: str) -> None:
    """Add another program's filter, one that passes every packet."""
    all_pass = ("bpf", "bytecode", "1,6 0 0 4294967295")
    host.run("tc", "filter", "add", "dev", "eth0", hook, "protocol", "all", *all_pass)


def by_another_filter(host: Host) -> None:
    host.run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    filter_packets(host, "ingress")


def by_a_qdisc_without_egress(host: Host) -> None:
    host.run("tc", "qdisc", "add", "dev", "eth0", "ingress")


@pytest.mark.parametrize("used", [by_another_filter, by_a_qdisc_without_egress])
def test_before_tcx_what_another_program_filters_is_left_alone(
    pair: tuple[Host, Host], owner: filters.Owner, stub: None, used: Callable[[Host], None]
) -> None:
    used(pair[1])
    before = there(pair[1])
    with (
        pair[1].inside(),
        pytest.raises(errors.CaptureUnavailable, match="Another program filters the packets of eth0"),
    ):
        attach(socket.if_nametoindex("eth0"), Direction.EGRESS, program(PASSES), owner)
    assert there(pair[1]) == before


def test_a_qdisc_that_was_there_stays(pair: tuple[Host, Host], owner: filters.Owner, stub: None) -> None:
    pair[1].run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    before = there(pair[1])
    with pair[1].inside():
        attach(socket.if_nametoindex("eth0"), Direction.INGRESS, program(PASSES), owner).close()
    assert there(pair[1]) == before


def test_a_qdisc_that_others_use_by_now_stays(pair: tuple[Host, Host], owner: filters.Owner, stub: None) -> None:
    with pair[1].inside():
        attached = attach(socket.if_nametoindex("eth0"), Direction.INGRESS, program(PASSES), owner)
        filter_packets(pair[1], "egress")
        attached.close()
    assert there(pair[1])[1:] == ["egress bpf"]


def test_an_interface_that_moved_away_is_let_go_of(pair: tuple[Host, Host], owner: filters.Owner, way: str) -> None:
    client, server = pair
    with hosts.host("x") as elsewhere, server.inside():
        attached = attach(socket.if_nametoindex("eth0"), Direction.INGRESS, program(DROPS), owner)
        server.run("ip", "link", "set", "eth0", "netns", elsewhere.name)
        attached.close()
        elsewhere.ipv4 = server.ipv4
        elsewhere.run("ip", "address", "add", f"{server.ipv4}/24", "dev", "eth0")
        elsewhere.run("ip", "link", "set", "eth0", "up")
        wait_until(lambda: answers((client, elsewhere)), "packets pass there")


def test_an_interface_that_is_gone_is_an_error(pair: tuple[Host, Host], owner: filters.Owner, way: str) -> None:
    with pair[1].inside(), pytest.raises(OSError, match="No such device"):
        attach(4711, Direction.INGRESS, program(PASSES), owner)

"""The plugin where it lacks some power: really lacking it, on a real kernel."""

from __future__ import annotations

import errno
import re
import socket
import subprocess
import sys

import pytest

from certbot_standalone_nfq.capture.nfqueue.messages import NETLINK_NETFILTER
from certbot_standalone_nfq.settings import CAPTURES
from lab.hosts import Host
from lab.interceptor import VARIANTS
from lab.plugin import WORKS, try_out
from lab.processes import wait_until

BOTH = "+net_admin,+net_raw,+dac_override"
CONFINED_ROOT = (
    r", which root lacks here\. Start (the container with --cap-add=NET_ADMIN|Certbot without the restriction)"
)

BY_QUEUE = ("--standalone-nfq-capture=iptables",)


def refusing(error: int, family: int, protocol: int = -1) -> tuple[str, ...]:
    return (sys.executable, "-m", "lab.seccomp", *(str(number) for number in (error, family, protocol)))


@pytest.mark.parametrize(
    "wrapper",
    [
        ("setpriv", f"--bounding-set=-all,{BOTH}"),
        ("unshare", "--user", "--map-root-user", "--net"),
    ],
    ids=["both-capabilities", "user-namespace-with-its-own-network"],
)
def test_it_works_with_power_over_its_own_network_alone(lonely_host: Host, wrapper: tuple[str, ...]) -> None:
    assert try_out(lonely_host, *wrapper) == WORKS


def test_ebpf_works_with_one_capability_more_and_no_other(lonely_host: Host) -> None:
    options = ("--standalone-nfq-capture=ebpf",)
    assert try_out(lonely_host, "setpriv", f"--bounding-set=-all,{BOTH},+bpf", options=options) == WORKS
    assert "CAP_BPF" in try_out(lonely_host, "setpriv", f"--bounding-set=-all,{BOTH}", options=options)


@pytest.mark.parametrize(
    ("dropped", "named"),
    [
        ("-net_admin", "CAP_NET_ADMIN"),
        ("-net_raw", "CAP_NET_RAW"),
        ("-net_admin,-net_raw", "CAP_NET_ADMIN and CAP_NET_RAW"),
    ],
)
def test_root_without_a_capability_is_told_to_be_given_it(lonely_host: Host, dropped: str, named: str) -> None:
    said = try_out(lonely_host, "setpriv", f"--bounding-set={dropped}")
    assert re.search(f"without {named}{CONFINED_ROOT}", said), said


def test_another_user_is_told_to_be_root(lonely_host: Host) -> None:
    # He may read everything, as this folder might not be for everybody.
    powers = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    said = try_out(lonely_host, "setpriv", "--reuid=65534", "--clear-groups", *powers)
    assert "without CAP_NET_ADMIN and CAP_NET_RAW. Run Certbot as root" in said


def test_a_user_namespace_without_power_over_its_network_is_told_from_a_lack_of_capabilities(lonely_host: Host) -> None:
    said = try_out(lonely_host, "unshare", "--user", "--map-root-user")
    assert "root only inside a user namespace that does not own the network namespace" in said
    assert "Run Certbot as root outside that container." in said


@pytest.mark.parametrize(
    ("error", "family", "protocol", "kind"),
    [
        (errno.EPERM, socket.AF_NETLINK, NETLINK_NETFILTER, "netlink"),
        (errno.EACCES, socket.AF_NETLINK, -1, "netlink"),
        (errno.EAFNOSUPPORT, socket.AF_NETLINK, -1, "netlink"),
        (errno.EPERM, socket.AF_INET, socket.IPPROTO_RAW, "raw"),
    ],
)
def test_a_filter_of_system_calls_is_told_from_a_lack_of_capabilities(
    lonely_host: Host, error: int, family: int, protocol: int, kind: str
) -> None:
    said = try_out(lonely_host, *refusing(error, family, protocol), options=BY_QUEUE)
    assert f"may not open a {kind} socket although it has the capabilities" in said
    assert "RestrictAddressFamilies" in said


def test_a_kernel_that_knows_no_netfilter_sockets_lacks_packet_queues(lonely_host: Host) -> None:
    refused = refusing(errno.EPROTONOSUPPORT, socket.AF_NETLINK, NETLINK_NETFILTER)
    said = try_out(lonely_host, *refused, options=BY_QUEUE)
    assert said.startswith(
        "KernelSupportMissing: This kernel has no packet queue for user space: module nfnetlink_queue"
    )


def test_a_machine_whose_edge_cannot_be_looked_at_intercepts_all_the_same(lonely_host: Host) -> None:
    assert try_out(lonely_host, *refusing(errno.EPERM, socket.AF_PACKET)) == WORKS


def test_it_works_where_proc_is_not_mounted(lonely_host: Host) -> None:
    hidden = ("unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$@"', "sh")
    assert try_out(lonely_host, *hidden) == WORKS


@pytest.mark.parametrize("firewall", [each for each in CAPTURES if each != "ebpf"])
def test_capabilities_that_programs_do_not_get_are_told_as_such(lonely_host: Host, firewall: str) -> None:
    said = try_out(lonely_host, module="lab.capabilities", options=(f"--standalone-nfq-capture={firewall}",))
    assert "the firewall programs that it starts do not get them. Run Certbot as root, or with CAP_NET_ADMIN" in said


@pytest.mark.parametrize("firewall", VARIANTS)
@pytest.mark.parametrize("files", range(6, 32, 2))
def test_too_few_descriptors_are_told_as_such_and_leave_nothing(lonely_host: Host, firewall: str, files: int) -> None:
    before = lonely_host.rules()
    options = (f"--standalone-nfq-capture={firewall}",)
    said = try_out(lonely_host, "prlimit", f"--nofile={files}", options=options)
    assert said == WORKS or "Too many open files" in said, said
    assert "kernel has no" not in said
    # Where no program can be started any more, the watchdog removes them once this process has ended.
    wait_until(lambda: lonely_host.rules() == before, "the removal of all rules")


@pytest.mark.parametrize("processes", range(1, 6))
def test_too_few_processes_are_told_as_such_and_leave_nothing(lonely_host: Host, processes: int) -> None:
    """A user of his own, as the limit counts all processes of a user, and does not hold for root."""
    before = lonely_host.rules()
    powers = "+net_admin,+net_raw,+dac_read_search,+dac_override"
    user = ("setpriv", "--reuid=61313", "--clear-groups", f"--inh-caps={powers}", f"--ambient-caps={powers}")
    said = try_out(lonely_host, "prlimit", f"--nproc={processes}", *user)
    assert said == WORKS or re.search("Resource temporarily unavailable|can't start new thread", said), said
    assert said == WORKS or "Allow Certbot more processes" in said
    wait_until(lambda: lonely_host.rules() == before, "the removal of all rules")


def test_a_lock_in_a_folder_that_is_read_only_is_told_as_such(lonely_host: Host) -> None:
    read_only = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro none /run && exec "$@"', "sh")
    said = try_out(lonely_host, *read_only, options=("--standalone-nfq-capture=iptables-legacy",))
    assert "Read-only file system" in said
    assert "Allow writing to /run" in said
    assert try_out(lonely_host, *read_only) == WORKS


ASCII = ("env", "LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0")
COMMENTS = ("caf\xe9".encode("latin-1"), "caf\xe9 \u2014 \u6f22".encode())
BY_TOOL = {
    "iptables-nft": "-A INPUT -p tcp --dport 80 -m comment --comment {} -j ACCEPT",
    "iptables-legacy": "-A INPUT -p tcp --dport 80 -m comment --comment {} -j ACCEPT",
    "ip6tables-nft": "-A INPUT -p tcp --dport 80 -m comment --comment {} -j REJECT",
    "ip6tables-legacy": "-A INPUT -p tcp --dport 80 -m comment --comment {} -j REJECT",
    "nft": 'insert rule inet t in tcp dport 80 drop comment "{}"',
}


def add_with_comment(host: Host, tool: str, comment: bytes) -> None:
    if tool == "nft":
        host.run("nft", "add table inet t; add chain inet t in { type filter hook input priority 0; }")
    arguments: list[bytes] = [word.replace(b"{}", comment) for word in BY_TOOL[tool].encode().split()]
    subprocess.run([*host.command(tool), *arguments], check=True)


@pytest.mark.parametrize("comment", COMMENTS, ids=["latin-1", "utf-8"])
@pytest.mark.parametrize("tool", BY_TOOL)
@pytest.mark.parametrize("locale", [(), ASCII], ids=["utf-8-locale", "ascii-locale"])
def test_comments_of_rules_may_be_in_any_encoding(
    lonely_host: Host, tool: str, comment: bytes, locale: tuple[str, ...]
) -> None:
    add_with_comment(lonely_host, tool, comment)
    assert try_out(lonely_host, *locale) == WORKS
    doctor = (*locale, sys.executable, "-m", "certbot_standalone_nfq", "doctor", "--port=80")
    finished = subprocess.run(lonely_host.command(*doctor), check=False, capture_output=True, timeout=60)
    assert not finished.stderr
    assert b"80" in finished.stdout

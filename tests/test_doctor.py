from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq import doctor as doctor_package
from certbot_standalone_nfq.command import main
from certbot_standalone_nfq.doctor import machine
from certbot_standalone_nfq.doctor.finding import Status
from certbot_standalone_nfq.doctor.names import allows_http01
from certbot_standalone_nfq.kernel import modules
from certbot_standalone_nfq.kernel.iptables import IptablesFirewall
from certbot_standalone_nfq.kernel.netlink_queue import NetlinkQueue
from certbot_standalone_nfq.kernel.plan import candidates
from certbot_standalone_nfq.kernel.queue import FOR_CHALLENGES
from certbot_standalone_nfq.kernel.rule_programs import Variant
from tests.lab import doctor
from tests.lab.dns import Dns, dns, resolving
from tests.lab.hosts import Host
from tests.lab.interceptor import intercepting
from tests.lab.nginx import nginx
from tests.lab.processes import running, wait_until

NAME = "www.example.com"
Pair = tuple[Host, Host]


@contextlib.contextmanager
def answering(host: Host, answer: Callable[[bytes], bytes]) -> Iterator[None]:
    """Let a host's nameserver be one that makes its answers of the queries' bytes."""

    def serve() -> None:
        while True:
            query, client = nameserver.recvfrom(4096)
            if not query:
                return
            nameserver.sendto(answer(query), client)

    with host.inside(), resolving(host):
        nameserver, stopper = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with nameserver, stopper:
            nameserver.bind(("127.0.0.1", 53))
            thread = threading.Thread(target=serve, name="nameserver")
            thread.start()
            try:
                yield
            finally:
                stopper.sendto(b"", nameserver.getsockname())
                thread.join()


def no_such_name(query: bytes) -> bytes:
    return query[:2] + b"\x81\x83" + query[4:6] + bytes(6) + query[12:]


@pytest.fixture
def server(pair: Pair, tmp_path: Path) -> Iterator[Host]:
    """A host whose nginx has port 80, on both families."""
    with nginx(pair[1], tmp_path / "nginx"):
        yield pair[1]


@pytest.fixture
def named(pair: Pair) -> Iterator[Dns]:
    """The DNS that the server asks."""
    with dns(pair[1]) as running:
        yield running


def test_all_is_well_on_a_host_that_can_do_it_and_takes_less_than_five_seconds(server: Host, named: Dns) -> None:
    named.address(NAME, server.ipv4, server.ipv6)
    report = doctor.examine(server, NAME)
    assert report.bad == []
    assert report.status == 0
    assert report.seconds < 5
    checks = ["privileges", "kernel", "iptables", "self-test", "listener", "firewall", "queues", "clients"]
    assert list(dict.fromkeys(found["check"] for found in report.findings)) == [*checks, "name", "CAA"]
    assert report.seen("self-test").count("a challenge was answered in") == 2
    assert "nginx listens on 0.0.0.0:80." in report.seen("listener")
    assert "nginx listens on [::]:80" in report.seen("listener")


def test_json_is_a_list_of_objects_of_four_strings(lonely_host: Host) -> None:
    report = doctor.examine(lonely_host)
    for found in report.findings:
        assert list(found) == ["status", "check", "seen", "cure"]
        assert all(isinstance(value, str) for value in found.values())
        assert found["status"] in ("pass", "warn", "fail")
        assert found["seen"]
        assert bool(found["cure"]) == (found["status"] != "pass")


def test_lines_say_the_same_as_json(lonely_host: Host) -> None:
    process, _ = doctor.run(lonely_host)
    lines = process.stdout.splitlines()
    assert lines[0] == "pass  privileges: CAP_NET_ADMIN and CAP_NET_RAW are in effect."
    assert len(lines) == len(doctor.examine(lonely_host).findings)
    assert process.stderr == ""


def test_where_nothing_listens_it_fails(lonely_host: Host) -> None:
    report = doctor.examine(lonely_host)
    assert report.status == 1
    assert "Nothing listens on TCP port 80 and no rule" in report.seen("listener", "fail")


def test_the_port_may_be_another(pair: Pair, tmp_path: Path) -> None:
    with nginx(pair[1], tmp_path / "nginx", port=8080):
        assert doctor.examine(pair[1], "--port", "8080").status == 0
        assert doctor.examine(pair[1]).status == 1


def test_of_a_server_on_any_ipv6_address_it_does_not_claim_to_know_about_ipv4(
    pair: Pair, named: Dns, tmp_path: Path
) -> None:
    server = pair[1]
    named.address(NAME, server.ipv4)
    with nginx(server, tmp_path / "nginx", listen="listen [::]:80 ipv6only=off;"):
        report = doctor.examine(server, NAME)
    assert report.bad == []
    assert "on IPv4 unless it chose IPv6 alone" in report.seen("listener")
    assert "which is served if what listens on [::] did not choose IPv6 alone" in report.seen("name")


def test_a_server_that_only_this_machine_reaches_does_not_count(pair: Pair, tmp_path: Path) -> None:
    with nginx(pair[1], tmp_path / "nginx", listen="listen 127.0.0.1:80;"):
        report = doctor.examine(pair[1])
    assert "but on the loopback interface" in report.seen("listener", "fail")


def test_a_published_container_port_counts_as_listening(lonely_host: Host) -> None:
    destination = ("-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", "198.51.101.2:8080")
    lonely_host.run("iptables", "-t", "nat", "-A", "PREROUTING", *destination)
    lonely_host.run("iptables", "-P", "INPUT", "DROP")  # which what is led elsewhere does not come by
    report = doctor.examine(lonely_host)
    assert report.status == 0
    assert report.seen("firewall", "warn") == ""
    assert "DNAT --to-destination 198.51.101.2:8080" in report.seen("listener", "pass")


def test_a_port_that_nft_redirects_counts_as_listening(lonely_host: Host) -> None:
    lonely_host.run("nft", "add table inet web; add chain inet web in { type nat hook prerouting priority -100; }")
    lonely_host.run("nft", "add rule inet web in tcp dport { 80, 81 } redirect to :8080")
    report = doctor.examine(lonely_host)
    assert report.status == 0
    assert "nft table inet web, chain in" in report.seen("listener", "pass")


def test_usage_errors_have_exit_status_2(lonely_host: Host) -> None:
    for arguments in (("--port", "0"), ("--port", "http"), ("--no-such-option",)):
        process, _ = doctor.run(lonely_host, *arguments)
        assert process.returncode == 2
        assert "usage:" in process.stderr


# Names


def test_a_name_with_an_ipv6_address_that_nothing_listens_on_fails(pair: Pair, named: Dns, tmp_path: Path) -> None:
    server = pair[1]
    named.address(NAME, server.ipv4, server.ipv6)
    with nginx(server, tmp_path / "nginx", listen="listen 80;"):
        report = doctor.examine(server, NAME)
    assert f"{NAME} has AAAA {server.ipv6}" in report.seen("name", "fail")
    assert f"{NAME} has A {server.ipv4}" in report.seen("name", "pass")
    assert report.status == 1


def test_an_address_that_is_not_ours_is_a_warning(server: Host, named: Dns) -> None:
    named.address(NAME, "203.0.113.9")
    report = doctor.examine(server, NAME)
    assert "203.0.113.9, not an address of this machine" in report.seen("name", "warn")
    assert "fine if a router forwards it here" in report.seen("name", "warn")
    assert report.status == 0


def test_no_address_is_called_ours_where_any_can_be_bound_to(server: Host, named: Dns) -> None:
    named.address(NAME, "203.0.113.9")
    server.run("sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1")
    assert "cannot be told" in doctor.examine(server, NAME).seen("name", "warn")


def test_a_loopback_address_is_a_warning_about_etc_hosts(server: Host, named: Dns) -> None:
    named.address(NAME, "127.0.1.1")
    assert "/etc/hosts" in doctor.examine(server, NAME).seen("name", "warn")


def test_a_name_without_addresses_a_wildcard_and_what_is_no_name_fail(server: Host) -> None:
    names = ("nowhere.example.com", "*.example.com", f"{'a' * 80}.example.com", "two..dots")
    with answering(server, no_such_name):
        report = doctor.examine(server, *names)
    assert "every authority may issue" in report.seen("CAA", "pass")
    for seen in (
        "nowhere.example.com has no address",
        "cannot validate wildcards",
        "aaa.example.com' cannot",
        "two..dots",
    ):
        assert seen in report.seen("name", "fail")


def test_an_address_in_place_of_a_name_is_looked_at_without_dns(server: Host) -> None:
    report = doctor.examine(server, server.ipv4, server.ipv6)
    assert report.bad == []
    assert report.seen("CAA") == ""


def test_names_that_hang_do_not_hang_it(server: Host) -> None:
    with server.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, resolving(server):
        silent.bind(("127.0.0.1", 53))
        report = doctor.examine(server, *(f"host{number}.example.com" for number in range(20)))
    assert report.seconds < 5
    assert report.seen("name", "warn").count("the look-up did not end in time") == 20
    assert report.seen("CAA", "warn").count("did not answer in time") == 20


# CAA


def test_caa_records_are_shown_with_the_name_they_were_found_at(server: Host, named: Dns) -> None:
    named.caa("example.com", "ca.example.net", "other.example.net; validationmethods=dns-01")
    named.address(NAME, server.ipv4)
    seen = doctor.examine(server, NAME).seen("CAA", "pass")
    assert f'{NAME}: CAA records of example.com: issue "ca.example.net"' in seen


def test_no_caa_records_are_no_obstacle(server: Host, named: Dns) -> None:
    assert "every authority may issue" in doctor.examine(server, NAME).seen("CAA", "pass")


@pytest.mark.parametrize("value", [";", "ca.example.net; validationmethods=dns-01,tls-alpn-01"])
def test_caa_records_that_forbid_http01_fail(server: Host, named: Dns, value: str) -> None:
    named.caa(NAME, value)
    report = doctor.examine(server, NAME)
    assert "None allows http-01" in report.seen("CAA", "fail")
    assert report.status == 1


def test_caa_that_cannot_be_had_is_a_warning(server: Host, named: Dns) -> None:
    named.fail(NAME)
    assert "the nameserver could not answer (code 2)" in doctor.examine(server, NAME).seen("CAA", "warn")


def test_a_garbage_answer_is_a_warning(server: Host) -> None:
    with answering(server, lambda query: query[:2] + b"\x81\x80" + b"\xff" * 8 + b"\xc0\x0c" * 50):
        report = doctor.examine(server, NAME)
    assert "the nameserver's answer makes no sense" in report.seen("CAA", "warn")


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("ca.example.net", True),
        ("ca.example.net; accounturi=https://ca.example.net/1", True),
        ("ca.example.net; ValidationMethods=dns-01,http-01", True),
        ("ca.example.net; validationmethods=dns-01", False),
        (";", False),
        ("", False),
    ],
)
def test_an_issue_record_allows_http01_unless_it_names_other_methods_or_nobody(value: str, allowed: bool) -> None:
    assert allows_http01(value) is allowed


# Firewall and queues


def test_a_policy_that_drops_is_a_warning_unless_a_rule_names_the_port(server: Host) -> None:
    server.run("iptables", "-P", "INPUT", "DROP")
    seen = doctor.examine(server).seen("firewall", "warn")
    assert "The policy of INPUT in table filter of iptables is DROP" in seen
    assert "no rule that packets come by names port 80" in seen
    server.run("iptables", "-A", "INPUT", "-p", "tcp", "-m", "multiport", "--dports", "443,80", "-j", "ACCEPT")
    report = doctor.examine(server)
    assert report.seen("firewall", "warn") == ""
    assert "--dports 443,80 -j ACCEPT" in report.seen("firewall", "pass")


def test_a_rule_that_refuses_the_port_is_shown(server: Host) -> None:
    server.run("ip6tables", "-N", "web")
    server.run("ip6tables", "-A", "INPUT", "-j", "web")
    server.run("ip6tables", "-A", "web", "-p", "tcp", "--dport", "1:1023", "-j", "REJECT")
    assert "ip6tables -t filter -A web" in doctor.examine(server).seen("firewall", "warn")


def test_an_nft_chain_that_drops_is_a_warning_unless_its_set_names_the_port(server: Host) -> None:
    server.run("nft", "add table inet f; add set inet f open { type inet_service; }")
    server.run("nft", "add chain inet f in { type filter hook input priority 0; policy drop; }")
    server.run("nft", "add rule inet f in ip6 nexthdr icmpv6 accept; add rule inet f in tcp dport @open accept")
    assert "The policy of in in table inet f of nft is DROP" in doctor.examine(server).seen("firewall", "warn")
    server.run("nft", "add element inet f open { 80 }")
    report = doctor.examine(server)
    assert report.seen("firewall", "warn") == ""
    assert "a rule names port 80: nft table inet f" in report.seen("firewall", "pass")


def test_rules_in_both_variants_are_a_warning(server: Host) -> None:
    for variant in ("nft", "legacy"):
        server.run(f"iptables-{variant}", "-A", "INPUT", "-s", "203.0.113.1", "-j", "DROP")
    assert "Both variants" in doctor.examine(server).seen("iptables", "warn")


def test_a_leftover_of_a_dead_run_is_shown_and_left(server: Host) -> None:
    plan = candidates(80)[0]
    read_end, write_end = os.pipe()
    with server.inside():
        IptablesFirewall().install(plan, write_end)
    os.close(read_end)
    os.close(write_end)
    before = server.rules()
    report = doctor.examine(server)
    assert "An interrupted run of this plugin left rules behind (queue 28080" in report.seen("queues", "warn")
    assert report.status == 0
    assert server.rules() == before


def test_a_run_under_way_is_told_from_a_dead_one_and_left_alone(server: Host) -> None:
    with intercepting(server):
        before = server.rules()
        report = doctor.examine(server)
        assert server.rules() == before
    assert "A run of this plugin is under way (queue 28080)" in report.seen("queues", "warn")


def test_other_queues_are_shown_and_rules_to_queues_without_a_listener(server: Host) -> None:
    with server.inside():
        queue = NetlinkQueue(7, FOR_CHALLENGES)
    server.run("iptables", "-A", "INPUT", "-p", "udp", "-j", "NFQUEUE", "--queue-num", "7")
    with contextlib.closing(queue):
        report = doctor.examine(server)
    assert "Other programs listen to packet queues: 7." in report.seen("queues", "pass")
    assert report.seen("queues", "warn") == ""
    assert "nobody listens to, which drops them" in doctor.examine(server).seen("queues", "warn")


def test_another_acme_client_of_this_host_is_shown(server: Host, pair: Pair, tmp_path: Path) -> None:
    client = tmp_path / "acme.sh"
    client.write_text("read -r forever\n")
    with server.inside(), running(["/bin/sh", str(client)], stdin=subprocess.PIPE) as process:
        report = doctor.examine(server)
        assert doctor.examine(pair[0]).seen("clients", "warn") == ""
    assert f"acme.sh (process {process.pid})" in report.seen("clients", "warn")


# What it takes, and what it leaves


def test_without_privileges_it_says_so_and_looks_at_the_rest(server: Host) -> None:
    readable = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # this folder may not be nobody's
    report = doctor.examine(server, wrapper=("setpriv", "--reuid=65534", "--clear-groups", *readable))
    assert report.status == 1
    assert "CAP_NET_ADMIN and CAP_NET_RAW not in effect" in report.seen("privileges", "fail")
    assert "Left out, as it takes CAP_NET_ADMIN and CAP_NET_RAW and CAP_SYS_ADMIN" in report.seen("self-test", "warn")
    assert "listens on 0.0.0.0:80" in report.seen("listener", "pass")
    assert "could not be read" in report.seen("firewall", "warn")
    assert "variant nf_tables" in report.seen("iptables", "pass")


def test_where_namespaces_cannot_be_made_only_the_self_test_is_left_out(server: Host) -> None:
    report = doctor.examine(server, wrapper=("setpriv", "--bounding-set=-sys_admin"))
    assert report.status == 0
    assert report.bad == [
        "warn self-test: Left out, as it takes CAP_SYS_ADMIN to test in a network namespace of its own."
    ]


def test_without_iptables_it_fails(lonely_host: Host, empty_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lonely_host.inside():
        assert main(["doctor", "--json"]) == 1
    report = doctor.Report(1, json.loads(capsys.readouterr().out), 0)
    assert "Found no program iptables" in report.seen("iptables", "fail")
    assert "there is no iptables that works" in report.seen("self-test", "warn")


@pytest.fixture
def wrapped(tmp_path: Path) -> Callable[[str, str], str]:
    """Put a shell script in place of a program; return the PATH on which it is found."""

    def wrap(program: str, script: str) -> str:
        folder = tmp_path / "wrapped"
        folder.mkdir(exist_ok=True)
        (folder / program).write_text(f"#!/bin/sh\n{script}\n")
        (folder / program).chmod(0o755)
        return f"{folder}:{os.environ['PATH']}:/usr/sbin:/sbin"

    return wrap


def test_a_kernel_without_the_prefilter_is_a_warning_with_the_reason(
    server: Host, wrapped: Callable[[str, str], str]
) -> None:
    restore = shutil.which("iptables-restore", path="/usr/sbin:/sbin")
    script = f'script=$(cat); case $script in *"-m bpf"*) exit 2;; esac; echo "$script" | {restore} "$@"'
    report = doctor.examine(server, path=wrapped("iptables-restore", script))
    assert "Worked only with the selection port: This kernel has no bpf match" in report.seen("self-test", "warn")
    assert report.seen("self-test", "pass").count("a challenge was answered") == 2
    assert report.status == 0


@pytest.mark.parametrize(("option", "may"), [((), False), (("--load-modules",), True)])
def test_the_self_test_can_load_modules_only_if_told_to(
    server: Host, wrapped: Callable[[str, str], str], tmp_path: Path, option: tuple[str, ...], may: bool
) -> None:
    restore = shutil.which("iptables-restore", path="/usr/sbin:/sbin")
    wrapped(
        "iptables-restore", f'script=$(cat); case $script in *"-m bpf"*) exit 2;; esac; echo "$script" | {restore} "$@"'
    )
    path = wrapped("modprobe", f"grep CapEff /proc/self/status >> {tmp_path}/powers")
    doctor.examine(server, *option, path=path)
    powers = {int(line.split()[1], 16) for line in (tmp_path / "powers").read_text().splitlines()}
    assert {bool(power >> 16 & 1) for power in powers} == {may}, "CAP_SYS_MODULE"


def test_what_is_loaded_if_told_to_is_what_an_interception_would_load() -> None:
    unloaded = _inventory(xt_bpf=False, nft_compat=False, xt_connmark=True)
    assert doctor_package._unloaded([VARIANT], unloaded) == ["xt_bpf", "nft_compat"]
    assert doctor_package._unloaded([], unloaded) == []


def test_a_firewall_that_refuses_the_rules_fails_the_self_test_with_its_words(
    server: Host, wrapped: Callable[[str, str], str]
) -> None:
    restore = shutil.which("iptables-restore", path="/usr/sbin:/sbin")
    script = (
        'script=$(cat); case $script in *ctorigdstport*) echo "no such luck" >&2; exit 1;; esac\n'
        f'echo "$script" | {restore} "$@"'
    )
    report = doctor.examine(server, path=wrapped("iptables-restore", script))
    assert "no such luck" in report.seen("self-test", "fail")


def test_programs_that_hang_do_not_hang_it(server: Host, wrapped: Callable[[str, str], str]) -> None:
    wrapped("iptables-save", "exec tail -f /dev/null")
    path = wrapped("iptables-restore", "exec tail -f /dev/null")
    report = doctor.examine(server, path=path)
    assert report.seconds < 5
    wait_until(lambda: report.survivors() == [], "the helper of the self-test that was cut off has ended")
    assert "Did not end within" in report.seen("self-test", "warn")
    assert "did not end within 1 second" in report.seen("firewall", "warn")


def test_it_leaves_rules_tables_queues_and_processes_as_they_were(server: Host, named: Dns) -> None:
    def state() -> tuple[str, ...]:
        legacy = server.run("sh", "-c", "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names")
        queues = server.run("cat", "/proc/net/netfilter/nfnetlink_queue")
        return server.rules(), server.run("nft", "list", "ruleset"), legacy, queues

    before = state()
    report = doctor.examine(server, NAME, "--load-modules")
    assert state() == before
    assert report.survivors() == []  # and so no network namespace, which ends with the last process in it


VARIANT = Variant("iptables", "/usr/sbin/iptables", "1.8.9", "nf_tables")


def _inventory(**differences: bool) -> modules.Inventory:
    """Return a kernel that has all modules loaded but those given: False for one that is only available."""
    features = [*modules.REQUIRED, *modules.PREFERRED, *modules.NF_TABLES]
    names = frozenset(feature.module for feature in features)
    available = frozenset(name for name in differences if not differences[name])
    missing = frozenset(name for name in differences if differences[name])
    return modules.Inventory(names - available - missing, frozenset(), available, {})


def test_the_self_test_is_left_out_if_it_would_load_modules(lonely_host: Host) -> None:
    test = machine.start_self_test([VARIANT], _inventory(xt_bpf=False, nft_compat=False), may_load=False)
    assert test.run is None
    assert test.left_out
    assert test.left_out.status is Status.WARN
    assert test.left_out.seen.endswith("it would load kernel modules: xt_bpf, nft_compat.")
    assert "--load-modules" in test.left_out.cure


def test_what_is_not_shown_is_not_claimed() -> None:
    blind = modules.Inventory(frozenset(), frozenset(), None, {})
    (finding,) = machine.kernel(blind)
    assert finding.status is Status.WARN
    assert "is not shown here: nfnetlink_queue" in finding.seen


def test_the_self_test_is_made_where_modules_are_missing_for_good(lonely_host: Host) -> None:
    test = machine.start_self_test([VARIANT], _inventory(xt_bpf=True), may_load=False)
    (ipv4, ipv6) = machine.self_test_result(test, 4.0)
    assert (ipv4.status, ipv6.status) == (Status.PASS, Status.PASS)


def test_a_module_that_is_missing_fails_if_nothing_works_without_it() -> None:
    findings = list(machine.kernel(_inventory(xt_bpf=True, nfnetlink_queue=True, xt_mark=False)))
    assert [(found.status, found.seen.split()[0]) for found in findings[:2]] == [
        (Status.FAIL, "packet"),
        (Status.WARN, "bpf"),
    ]
    assert "available, not loaded: xt_mark" in findings[2].seen

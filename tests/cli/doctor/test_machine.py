from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.ebpf.backend import EbpfBackend
from certbot_standalone_nfq.cli.doctor import examine as doctor_package
from certbot_standalone_nfq.cli.doctor import machine
from certbot_standalone_nfq.cli.doctor.finding import Status
from certbot_standalone_nfq.cli.main import main
from certbot_standalone_nfq.host import kernel_modules
from certbot_standalone_nfq.host.firewall.reader import Variant
from lab import doctor
from lab.hosts import Host
from lab.processes import UNMEASURED

VARIANT = Variant("iptables", "/usr/sbin/iptables", "1.8.9", "nf_tables")


def inventory(**differences: bool) -> kernel_modules.Inventory:
    """Return a kernel that has all modules loaded but those given: False for one that is only available."""
    features = [
        kernel_modules.QUEUE,
        *kernel_modules.FOR_IPTABLES,
        *kernel_modules.FOR_PREFILTER,
        *kernel_modules.OF_IPTABLES_NFT,
    ]
    names = frozenset(feature.module for feature in features)
    available = frozenset(name for name in differences if not differences[name])
    missing = frozenset(name for name in differences if differences[name])
    return kernel_modules.Inventory(names - available - missing, frozenset(), available, {})


def test_rules_in_both_variants_are_a_warning(server: Host) -> None:
    for variant in ("nft", "legacy"):
        server.run(f"iptables-{variant}", "-A", "INPUT", "-s", "203.0.113.1", "-j", "DROP")
    assert "Both variants" in doctor.examine(server).seen("tools", "warn")


def test_without_privileges_it_says_so_and_looks_at_the_rest(server: Host) -> None:
    readable = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # this folder may not be nobody's
    report = doctor.examine(server, wrapper=(*UNMEASURED, "setpriv", "--reuid=65534", "--clear-groups", *readable))
    assert report.status == 1
    assert "without CAP_NET_ADMIN and CAP_NET_RAW. Run Certbot as root" in report.seen("privileges", "fail")
    assert report.seen("privileges").endswith("it could not check: self-test, firewall.")
    assert "listens on 0.0.0.0:80" in report.seen("listener", "pass")
    assert not [found for found in report.findings if found["check"] in ("self-test", "firewall")]
    assert "variant nf_tables" in report.seen("tools", "pass")


def test_a_listing_that_fails_for_root_is_not_told_as_a_lack_of_power(
    server: Host, wrapped: Callable[[str, str], str]
) -> None:
    report = doctor.examine(server, path=wrapped("nft", 'case "$*" in *list*) echo broken >&2; exit 1;; esac; exit 0'))
    assert "The rules could not be read: nft: broken. Run nft by hand" in report.seen("firewall", "warn")
    assert "as root" not in report.seen("firewall")


def test_power_over_other_networks_than_this_is_none(server: Host) -> None:
    report = doctor.examine(server, wrapper=("unshare", "--user", "--map-root-user"))
    assert report.status == 1
    assert "does not own the network namespace" in report.seen("privileges", "fail")


def test_where_namespaces_cannot_be_made_only_the_self_test_is_left_out(server: Host) -> None:
    report = doctor.examine(server, wrapper=("setpriv", "--bounding-set=-sys_admin"))
    assert report.status == 0
    assert report.bad == ["warn self-test: Skipped: it needs CAP_SYS_ADMIN for a network namespace of its own."]


def test_without_iptables_and_nft_there_is_ebpf(
    lonely_host: Host, empty_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lonely_host.inside():
        assert main(["doctor", "--json"]) == 0
    report = doctor.Report(0, json.loads(capsys.readouterr().out)["findings"], 0)
    assert "Found neither iptables" in report.seen("tools", "warn")
    assert "would be captured by ebpf, as no connections are tracked here." in report.seen("capture", "pass")
    assert report.seen("self-test", "pass").count("a challenge was answered") == 2


def test_without_iptables_nft_and_ebpf_it_fails(
    lonely_host: Host, empty_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lack = errors.CaptureUnavailable("This kernel has no eBPF.", "Use another.")
    monkeypatch.setattr(EbpfBackend, "unsupported", lambda *_: lack)
    with lonely_host.inside():
        assert main(["doctor", "--json"]) == 1
    report = doctor.Report(1, json.loads(capsys.readouterr().out)["findings"], 0)
    assert "Found neither iptables" in report.seen("tools", "fail")
    assert "There is no way to capture packets to port 80." in report.seen("capture", "fail")
    assert "no iptables or nft works" in report.seen("self-test", "warn")


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
    unloaded = inventory(xt_bpf=False, nft_compat=False, xt_connmark=True)
    assert doctor_package.to_be_loaded([VARIANT], unloaded) == [kernel_modules.BPF, kernel_modules.NFT_COMPAT]
    assert doctor_package.to_be_loaded([], unloaded) == []


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


def test_the_self_test_is_left_out_if_it_would_load_modules(lonely_host: Host) -> None:
    test = machine.start_self_test([VARIANT], inventory(xt_bpf=False, nft_compat=False), may_load=False)
    assert test.run is None
    assert test.skipped
    assert test.skipped.status is Status.WARN
    assert test.skipped.seen.endswith("it would load kernel modules: xt_bpf, nft_compat.")
    assert "--load-modules" in test.skipped.cure


def test_what_is_not_shown_is_not_claimed() -> None:
    blind = kernel_modules.Inventory(frozenset(), frozenset(), None, {})
    (finding,) = machine.kernel(blind, [VARIANT])
    assert finding.status is Status.WARN
    assert "cannot determine whether it is built in or loadable: nfnetlink_queue" in finding.seen


def test_the_self_test_is_made_where_modules_are_missing_for_good(lonely_host: Host) -> None:
    test = machine.start_self_test([VARIANT], inventory(xt_bpf=True), may_load=False)
    (ipv4, ipv6) = machine.self_test_result(test, 4.0)
    assert (ipv4.status, ipv6.status) == (Status.PASS, Status.PASS)


def test_a_module_that_is_missing_fails_if_nothing_works_without_it() -> None:
    findings = list(machine.kernel(inventory(xt_bpf=True, nfnetlink_queue=True, xt_mark=False), [VARIANT]))
    assert [(found.status, found.seen.split()[0]) for found in findings[:2]] == [
        (Status.FAIL, "packet"),
        (Status.WARN, "bpf"),
    ]
    assert "available, not loaded: xt_mark" in findings[2].seen


def test_what_searches_handshakes_is_wanted_for_tls_alpn_01_alone() -> None:
    def warned(typ: str) -> list[str]:
        return [each.seen for each in machine.kernel(inventory(), [VARIANT], typ) if each.status is Status.WARN]

    assert warned("http-01") == []
    assert warned("tls-alpn-01") == [
        "string match not found: module xt_string, kernel option CONFIG_NETFILTER_XT_MATCH_STRING."
    ]

"""Which way to capture is taken, and what is told of those that are not."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture import choice
from certbot_standalone_nfq.capture.ebpf.backend import EbpfBackend
from certbot_standalone_nfq.capture.iptables.backend import IptablesWriter
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Selection
from certbot_standalone_nfq.capture.protocols import port_of
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.host.firewall.reader import Snapshot
from certbot_standalone_nfq.settings import CAPTURES, Settings
from lab.hosts import Host
from lab.interceptor import VARIANTS
from tests.capture.opening import open_capture


@pytest.fixture
def host(lonely_host: Host) -> Iterator[Host]:
    with lonely_host.inside():
        yield lonely_host


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.anywhere
def test_the_backends_there_are_are_those_the_user_may_choose_in_the_same_order() -> None:
    names = [backend.name for backend in choice.backends(Settings(), Snapshot())]
    assert list(dict.fromkeys(names)) == list(CAPTURES)


@pytest.mark.anywhere
def test_the_log_says_in_one_line_which_backend_was_taken(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "certbot_standalone_nfq")
    open_capture().close()
    assert [record.getMessage() for record in caplog.records] == [
        "Packets to port 80 are captured by iptables, as it is the first that works"
    ]


@pytest.mark.anywhere
def test_each_port_takes_a_capture_of_its_own() -> None:
    selectors = [*Http01Solver.selectors(80), *Http01Solver.selectors(8080)]
    with pytest.raises(ValueError, match="selectors of one port are needed, not of 2"):
        port_of(selectors)
    assert port_of(selectors[:1]) == 80


def refusing(monkeypatch: pytest.MonkeyPatch, variants: set[str]) -> None:
    install = IptablesWriter.install

    def refuse_or_install(self: IptablesWriter, allocation: Allocation, hold_open: int) -> None:
        if self.name in variants:
            raise errors.KernelSupportMissing("x", "y", "z")
        install(self, allocation, hold_open)

    monkeypatch.setattr(IptablesWriter, "install", refuse_or_install)


def test_the_next_variant_is_tried_if_one_cannot_install_and_the_log_says_why(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "certbot_standalone_nfq")
    refusing(monkeypatch, {"iptables", "iptables-nft"})
    held = open_capture()
    assert held.name == "iptables-legacy"
    held.close()
    assert [record.getMessage() for record in caplog.records] == [
        "Packets to port 80 are captured by iptables-legacy, as it is the first that works; "
        "not by iptables: This kernel has no x: module y, kernel option z; "
        "not by iptables-nft: This kernel has no x: module y, kernel option z"
    ]


def test_where_ip6tables_alone_fails_the_next_program_serves_both_ip_versions(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A name with an AAAA record is validated over IPv6: rules for IPv4 alone would be the worse choice."""
    broken = tmp_path / "ip6tables-restore"
    broken.write_text("#!/bin/sh\necho the disk is full >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    held = open_capture()
    assert held.name == "iptables-nft"
    assert host.rules().count(f"--queue-num {held.allocation.queue}") == 6
    held.close()


@pytest.fixture
def without_ebpf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this kernel one that lacks eBPF."""
    error = errors.CaptureUnavailable("This kernel has no eBPF.", "Use another.")

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(EbpfBackend, "unsupported", lambda *_: error)
    monkeypatch.setattr(EbpfBackend, "open", refuse)


def test_where_a_rule_copies_whole_connection_marks_no_connection_is_marked(
    host: Host, caplog: pytest.LogCaptureFixture, without_ebpf: None
) -> None:
    rule = "-A PREROUTING -j CONNMARK --restore-mark"
    host.run("iptables", "-t", "mangle", *rule.split())
    held = open_capture()
    try:
        if "nftables" in VARIANTS:
            assert held.name == "nftables"
        else:
            assert (held.name, held.allocation.selection) == ("iptables", Selection.PORT)
            assert rule in caplog.text
    finally:
        held.close()


@pytest.fixture
def without_extensions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Make iptables one that was built without certain extensions."""

    def leave_out(*extensions: str) -> None:
        (installed,) = Path("/usr/lib").glob("*/xtables")
        for library in installed.iterdir():
            if library.name not in {f"libxt_{extension}.so" for extension in extensions}:
                (tmp_path / library.name).symlink_to(library)
        monkeypatch.setenv("XTABLES_LIBDIR", str(tmp_path))

    return leave_out


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("lacking", "selection"),
    [
        (("bpf",), Selection.PORT),
        (("connmark", "CONNMARK"), Selection.PORT),
        (("bpf", "conntrack"), Selection.STATELESS_PORT),
        (("conntrack",), Selection.STATELESS_PORT),
    ],
)
def test_where_the_prefilter_cannot_be_installed_the_port_is_queued_and_a_warning_says_why(
    host: Host,
    without_extensions: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    lacking: tuple[str, ...],
    selection: Selection,
) -> None:
    before = host.rules()
    without_extensions(*lacking)
    held = open_capture(capture="iptables")
    assert held.allocation.selection is selection
    (warning,) = warnings(caplog)
    assert re.search(rf"every packet to port 80 goes through Certbot.*no ({'|'.join(lacking)}) (match|target)", warning)
    held.close()
    assert host.rules() == before


@pytest.mark.anywhere
def test_without_a_packet_queue_target_there_is_no_way_and_the_error_names_it(
    host: Host, without_extensions: Callable[..., None]
) -> None:
    without_extensions("bpf", "NFQUEUE")
    with pytest.raises(errors.KernelSupportMissing, match="no NFQUEUE target"):
        open_capture(capture="iptables")


@pytest.mark.anywhere
def test_a_selection_that_was_asked_for_is_the_only_one_tried(
    host: Host, without_extensions: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    without_extensions("bpf")
    with pytest.raises(errors.KernelSupportMissing, match="no bpf match"):
        open_capture(capture="iptables", selection="prefilter")
    open_capture(capture="iptables", selection="port").close()
    assert not warnings(caplog)


@pytest.mark.anywhere
def test_what_another_selection_would_suffer_from_as_well_ends_the_search(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Selection] = []

    def refuse(self: IptablesWriter, allocation: Allocation, hold_open: int) -> None:
        tried.append(allocation.selection)
        raise errors.FirewallRefused(self.name, "the disk is full")

    monkeypatch.setattr(IptablesWriter, "install", refuse)
    with pytest.raises(errors.FirewallRefused, match=r"iptables-nft could not add the rules .*the disk is full"):
        open_capture(capture="iptables-nft")
    assert tried == [Selection.PREFILTER]


@pytest.mark.anywhere
def test_without_privileges_the_error_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certbot_standalone_nfq.host.privileges.missing_capabilities", lambda: ["CAP_NET_RAW"])
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    with pytest.raises(errors.NotPermitted, match=r"without CAP_NET_RAW.*Run Certbot as root"):
        open_capture()


@pytest.mark.anywhere
def test_without_ebpf_and_any_firewall_program_the_error_says_what_to_install(
    host: Host, empty_path: Path, without_ebpf: None
) -> None:
    for settings in (Settings(), Settings(selection="port")):
        with pytest.raises(errors.NoFirewallTool, match=r"Install your distribution's iptables or nftables package"):
            choice.require_any(settings)
        with pytest.raises(errors.NoFirewallTool, match=r"Install your distribution's iptables or nftables package"):
            choice.open_capture(settings, Http01Solver.selectors(80), Snapshot(), contextlib.ExitStack())
    with pytest.raises(errors.NoFirewallTool, match="no program iptables-legacy"):
        choice.require_any(Settings(capture="iptables-legacy"))

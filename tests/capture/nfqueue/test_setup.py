from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.choice import Firewall, available
from certbot_standalone_nfq.capture.iptables import rules as iptables_rules
from certbot_standalone_nfq.capture.iptables.backend import IptablesFirewall
from certbot_standalone_nfq.capture.nfqueue import setup as claims
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, RunId, Selection
from certbot_standalone_nfq.capture.nfqueue.setup import Claim
from certbot_standalone_nfq.capture.nftables import program
from certbot_standalone_nfq.capture.nftables import rules as nftables_rules
from certbot_standalone_nfq.capture.nftables.selector import Payload
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.settings import Settings
from lab.hosts import Host
from lab.interceptor import CLIENTS, IPTABLES, VARIANTS


def claim(settings: Settings) -> Claim:
    return claims.claim(settings, Http01Solver.selectors(settings.port))


@pytest.fixture
def host(lonely_host: Host) -> Iterator[Host]:
    with lonely_host.inside():
        yield lonely_host


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_claim_that_is_given_back_leaves_nothing(host: Host, variant: str, client: str) -> None:
    before, descriptors = host.rules(), len(open_descriptors())
    held = claim(Settings(80, firewall=variant, queue_client=client))
    assert "certbot-nfq-28080" in host.rules().lower()
    held.release()
    assert host.rules() == before
    assert len(open_descriptors()) == descriptors


def test_claims_at_one_time_take_other_queues_and_marks(host: Host) -> None:
    before = host.rules()
    held = [claim(Settings(80)) for _ in range(4)]
    assert len({each.allocation.queue for each in held}) == 4
    with pytest.raises(errors.ResourceInUse, match="Queue number 28080 is in use"):
        claim(Settings(80))
    for each in held:
        each.release()
    assert host.rules() == before


def test_a_mark_that_a_rule_uses_is_passed_over(host: Host) -> None:
    host.run("iptables", "-t", "mangle", "-A", "PREROUTING", "-j", "MARK", "--set-mark", "0x10000000")
    held = claim(Settings(80))
    assert held.allocation.marks.both == 0xC0000000
    held.release()


def test_where_a_rule_copies_whole_connection_marks_no_connection_is_marked(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    rule = "-A PREROUTING -j CONNMARK --restore-mark"
    host.run("iptables", "-t", "mangle", *rule.split())
    held = claim(Settings(80))
    try:
        if "nftables" in VARIANTS:
            assert held.firewall.name == "nftables"
        else:
            assert (held.firewall.name, held.allocation.selection) == ("iptables", Selection.PORT)
            assert rule in caplog.text
    finally:
        held.release()


def test_a_mark_that_the_user_chose_and_a_rule_uses_is_an_error(host: Host) -> None:
    host.run("iptables", "-t", "mangle", "-A", "PREROUTING", "-j", "MARK", "--set-mark", "0x4")
    before = host.rules()
    with pytest.raises(errors.BadOption, match=r"0x6 .*--set-xmark 0x4/0xffffffff.*--standalone-nfq-mark"):
        claim(Settings(80, mark=6))
    assert host.rules() == before


def test_a_queue_that_the_user_chose_and_another_has_is_an_error(host: Host) -> None:
    held = claim(Settings(80, queue=5))
    with pytest.raises(errors.BadOption, match="Queue number 5 "):
        claim(Settings(80, queue=5))
    held.release()


def test_a_queue_that_a_rule_feeds_is_not_taken_while_its_program_is_away(host: Host) -> None:
    host.run("iptables", "-A", "INPUT", "-p", "udp", "-j", "NFQUEUE", "--queue-num", "28080", "--queue-bypass")
    held = claim(Settings(80))
    assert held.allocation.queue == 28081
    held.release()


def leave_behind(firewall: Firewall, allocation: Allocation) -> None:
    """Install rules as a run does that dies then. Those of nft's only stay where it cannot own a table."""
    if isinstance(firewall, IptablesFirewall):
        firewall.install(allocation, hold_open=0)
    else:
        program.run("nft", commands=nftables_rules.install_commands(allocation, Payload.TRANSPORT_HEADER, owned=False))


@pytest.mark.parametrize("variant", VARIANTS)
def test_leftovers_of_dead_runs_are_removed_and_living_runs_spared(host: Host, variant: str) -> None:
    living = claim(Settings(80, firewall=variant))
    (firewall,) = available(variant)
    before = host.rules()
    for queue, marks in ((28081, Marks(0x40000000, 0x80000000)), (777, Marks(1, 2))):
        leave_behind(firewall, Allocation(Http01Solver.selectors(80), RunId(queue, "dead"), marks))
    held = claim(Settings(8080, firewall=variant))
    assert firewall.installed() == {living.allocation.run_id, held.allocation.run_id}
    held.release()
    assert host.rules() == before
    living.release()


def test_a_claim_that_fails_midway_leaves_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before, descriptors = host.rules(), len(open_descriptors())
    monkeypatch.setattr(iptables_rules, "install_script", lambda *_: "*mangle\n-A NO-SUCH -j ACCEPT\nCOMMIT\n")
    with pytest.raises(errors.FirewallRefused):
        claim(Settings(80, firewall="iptables"))
    assert host.rules() == before
    assert len(open_descriptors()) == descriptors
    assert host.run("cat", "/proc/net/netfilter/nfnetlink_queue") == ""


def test_the_next_variant_is_tried_if_one_cannot_install(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    install = IptablesFirewall.install

    def refusing(self: IptablesFirewall, allocation: Allocation, hold_open: int) -> None:
        if self.name != "iptables-legacy":
            raise errors.KernelSupportMissing("x", "y", "z")
        install(self, allocation, hold_open)

    monkeypatch.setattr(IptablesFirewall, "install", refusing)
    held = claim(Settings(80))
    assert held.firewall.name == "iptables-legacy"
    held.release()


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
    held = claim(Settings(80, firewall="iptables"))
    assert held.allocation.selection is selection
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert re.search(rf"every packet to port 80 goes through Certbot.*no ({'|'.join(lacking)}) (match|target)", warning)
    held.release()
    assert host.rules() == before


def test_without_a_packet_queue_target_there_is_no_way_and_the_error_names_it(
    host: Host, without_extensions: Callable[..., None]
) -> None:
    without_extensions("bpf", "NFQUEUE")
    with pytest.raises(errors.KernelSupportMissing, match="no NFQUEUE target"):
        claim(Settings(80, firewall="iptables"))


def test_a_selection_that_was_asked_for_is_the_only_one_tried(
    host: Host, without_extensions: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    without_extensions("bpf")
    with pytest.raises(errors.KernelSupportMissing, match="no bpf match"):
        claim(Settings(80, firewall="iptables", selection="prefilter"))
    claim(Settings(80, firewall="iptables", selection="port")).release()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("selection", Selection)
@pytest.mark.parametrize("variant", IPTABLES)  # a table that nft owns can be removed by its owner alone
def test_the_guards_commands_remove_the_rules_of_every_selection(
    host: Host, variant: str, selection: Selection
) -> None:
    before = host.rules()
    held = claim(Settings(80, firewall=variant, selection=selection.value))
    for command in held.firewall.removal_commands(held.allocation):
        host.run(*command)
    assert host.rules() == before
    held.release()


def test_without_privileges_the_error_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certbot_standalone_nfq.host.privileges.missing_capabilities", lambda: ["CAP_NET_RAW"])
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    with pytest.raises(errors.NotPermitted, match=r"without CAP_NET_RAW.*Run Certbot as root"):
        claim(Settings(80))


def test_an_fnfqueue_that_cannot_be_loaded_is_missed_only_if_asked_for(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: "there")
    monkeypatch.setitem(sys.modules, "certbot_standalone_nfq.capture.nfqueue.fnfqueue_client", None)
    with pytest.raises(errors.NotInstalled, match=r"cannot load the Python package fnfqueue: ModuleNotFoundError"):
        claims._open_queue(28080, "fnfqueue")
    claims._open_queue(28080, "auto").close()


def test_fnfqueue_is_missed_only_if_asked_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(errors.NotInstalled, match="not installed"):
        claims._open_queue(28080, "fnfqueue")
    claims._open_queue(28080, "auto").close()

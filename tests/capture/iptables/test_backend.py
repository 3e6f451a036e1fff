"""The rules as text, and the same rules in a real kernel, by both variants of iptables."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import stat
from pathlib import Path

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.bpf import selector
from certbot_standalone_nfq.capture.iptables import backend as iptables
from certbot_standalone_nfq.capture.iptables import rules as iptables_rules
from certbot_standalone_nfq.capture.iptables.backend import IptablesWriter
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, RunId
from certbot_standalone_nfq.capture.nfqueue.rule_writer import Rules
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.host.command import find_program
from certbot_standalone_nfq.host.firewall.reader import take_snapshot
from lab.hosts import Host

SELECTORS = Http01Solver.selectors(80)
ALLOCATION = Allocation(SELECTORS, RunId(28080, "0f1e"), Marks(0x10000000, 0x20000000))


@pytest.mark.parametrize("family", [4, 6])
def test_the_rules_read_as_designed(family: int) -> None:
    assert iptables_rules.install_script(ALLOCATION, family) == (
        "*mangle\n"
        ":CERTBOT-NFQ-28080-0f1e - [0:0]\n"
        ":CERTBOT-NFQ-28080-0f1e-OUT - [0:0]\n"
        "-A CERTBOT-NFQ-28080-0f1e -m mark --mark 0x20000000/0x20000000 -g CERTBOT-NFQ-28080-0f1e-OUT\n"
        f'-A CERTBOT-NFQ-28080-0f1e -m bpf --bytecode "{selector.bytecode(SELECTORS[0], family)}" -j CONNMARK'
        " --set-xmark 0x10000000/0x10000000\n"
        "-A CERTBOT-NFQ-28080-0f1e -m connmark --mark 0x10000000/0x10000000"
        " -j NFQUEUE --queue-num 28080 --queue-bypass\n"
        "-A CERTBOT-NFQ-28080-0f1e -m conntrack ! --ctstate UNTRACKED -j RETURN\n"
        "-A CERTBOT-NFQ-28080-0f1e -m bpf --bytecode"
        f' "{selector.bytecode(SELECTORS[0], family)}" -m recent --name CERTBOT-NFQ-28080-0f1e --rsource --set'
        " -j NFQUEUE --queue-num 28080 --queue-bypass\n"
        "-A CERTBOT-NFQ-28080-0f1e"
        " -m recent --name CERTBOT-NFQ-28080-0f1e --rsource --rcheck --seconds 180"
        " -j NFQUEUE --queue-num 28080 --queue-bypass\n"
        "-A CERTBOT-NFQ-28080-0f1e-OUT -m mark --mark 0x20000000/0x30000000 -j CONNMARK --set-xmark 0x0/0x10000000\n"
        "-A CERTBOT-NFQ-28080-0f1e-OUT -j MARK --set-xmark 0x0/0x30000000\n"
        "-I INPUT 1 -p tcp --dport 80 -j CERTBOT-NFQ-28080-0f1e\n"
        "-I INPUT 1 -p tcp ! --dport 80 -m conntrack --ctdir ORIGINAL --ctorigdstport 80 -j CERTBOT-NFQ-28080-0f1e\n"
        "-I FORWARD 1 -p tcp -m conntrack --ctstatus ASSURED --ctdir ORIGINAL --ctorigdstport 80 "
        "-j CERTBOT-NFQ-28080-0f1e\n"
        "COMMIT\n"
    )


def test_the_longest_chain_name_fits_iptables() -> None:
    assert max(map(len, iptables_rules.chain_names(RunId(65535, "ffff")))) <= 28


def test_what_is_installed_is_removed_to_the_last_rule(writer: IptablesWriter, lonely_host: Host) -> None:
    for family in ("iptables", "ip6tables"):
        lonely_host.run(family, "-t", "mangle", "-A", "INPUT", "-p", "udp", "-j", "MARK", "--set-mark", "7")
    before = lonely_host.rules()
    writer.install(ALLOCATION, hold_open=0)
    installed = lonely_host.rules()
    assert installed.count("--queue-num 28080 --queue-bypass") == 6
    assert installed.count("-A INPUT -p tcp") == 4
    assert installed.count("-A FORWARD -p tcp") == 2
    assert writer.installed() == {ALLOCATION.run_id}
    writer.remove(ALLOCATION.run_id, 80)
    assert lonely_host.rules() == before
    writer.remove(ALLOCATION.run_id, 80)
    assert writer.installed() == set()


def test_our_jumps_are_the_first_rules_of_their_hook(writer: IptablesWriter, lonely_host: Host) -> None:
    program = writer.name
    lonely_host.run(program, "-t", "mangle", "-A", "INPUT", "-j", "ACCEPT")
    writer.install(ALLOCATION, hold_open=0)
    *ours, last = lonely_host.run(program, "-t", "mangle", "-S", "INPUT").splitlines()[1:]
    assert [rule.split()[-1] for rule in ours] == ["CERTBOT-NFQ-28080-0f1e"] * 2
    assert last == "-A INPUT -j ACCEPT"


def test_runs_are_removed_one_by_one(writer: IptablesWriter) -> None:
    other = Allocation(SELECTORS, RunId(28080, "0f1d"), Marks(0x40000000, 0x80000000))
    writer.install(ALLOCATION, hold_open=0)
    writer.install(other, hold_open=0)
    assert writer.installed() == {ALLOCATION.run_id, other.run_id}
    writer.remove(other.run_id, 80)
    assert writer.installed() == {ALLOCATION.run_id}


@pytest.mark.parametrize("damage", [("-D", "INPUT", "1"), ("-F", "CERTBOT-NFQ-28080-0f1e"), ("-F", "INPUT")])
def test_rules_that_another_program_damaged_are_removed_as_well(
    writer: IptablesWriter, lonely_host: Host, damage: tuple[str, ...]
) -> None:
    before = lonely_host.rules()
    writer.install(ALLOCATION, hold_open=0)
    lonely_host.run(writer.name, "-t", "mangle", *damage)
    writer.remove(ALLOCATION.run_id, 80)
    assert lonely_host.rules() == before


@pytest.mark.parametrize(
    "damage", [(), ("-D", "INPUT", "1"), ("-F", "CERTBOT-NFQ-28080-0f1e"), ("-F", "INPUT"), ("-F",)]
)
def test_rules_are_withdrawn_whatever_is_missing_of_them(
    writer: IptablesWriter, lonely_host: Host, damage: tuple[str, ...]
) -> None:
    before = lonely_host.rules()
    writer.install(ALLOCATION, hold_open=0)
    if damage:
        lonely_host.run(writer.name, "-t", "mangle", *damage)
    for _ in range(2):
        assert not writer.withdraw(ALLOCATION)
        assert lonely_host.rules() == before


def test_jumps_that_are_there_twice_are_withdrawn(writer: IptablesWriter, lonely_host: Host) -> None:
    before = lonely_host.rules()
    writer.install(ALLOCATION, hold_open=0)
    lonely_host.run(
        writer.name, "-t", "mangle", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "CERTBOT-NFQ-28080-0f1e"
    )
    writer.withdraw(ALLOCATION)
    assert lonely_host.rules() == before


def test_rules_that_cannot_all_be_removed_are_told_and_those_of_the_other_ip_version_are_removed(
    writer: IptablesWriter, lonely_host: Host
) -> None:
    """A rule of the user's jumps to our chain."""
    writer.install(ALLOCATION, hold_open=0)
    lonely_host.run(writer.name, "-t", "mangle", "-A", "PREROUTING", "-j", "CERTBOT-NFQ-28080-0f1e")
    with pytest.raises(errors.FirewallRefused, match=r"CHAIN_DEL failed|Too many links"):
        writer.withdraw(ALLOCATION)
    assert "-j CERTBOT-NFQ-28080-0f1e" in lonely_host.run(writer.name, "-t", "mangle", "-S")
    assert "NFQUEUE" not in lonely_host.rules()
    six = writer.name.replace("ip", "ip6", 1)
    assert "CERTBOT-NFQ" not in lonely_host.run(six, "-t", "mangle", "-S")


@pytest.mark.parametrize("failure", ["exit 1", "exit 0", 'echo "out of memory" >&2; exit 4'])
def test_rules_are_removed_where_they_cannot_be_listed(lonely_host: Host, wrapped_tools: Path, failure: str) -> None:
    before = lonely_host.rules()
    with lonely_host.inside():
        writer = IptablesWriter()
        writer.install(ALLOCATION, hold_open=0)
        for family in ("iptables", "ip6tables"):
            replace_tool(wrapped_tools, f"{family}-save", failure)
        writer.remove(ALLOCATION.run_id, 80)
    assert lonely_host.rules() == before


def conflicts(writer: IptablesWriter) -> list[str]:
    return [rule.text for rule in take_snapshot().rules if writer.conflicts(ALLOCATION, rule)]


@pytest.mark.anywhere
@pytest.mark.parametrize(
    "rule",
    [
        "-t mangle -A PREROUTING -j MARK --set-mark 0x10000000",
        "-t mangle -A FORWARD -j CONNMARK --set-xmark 0x20000000/0x20000000",
        "-t filter -A INPUT -m mark --mark 0x30000000/0xf0000000 -j DROP",
        "-t filter -A INPUT -m connmark --mark 0xffffffff -j DROP",
        "-t filter -A INPUT -p udp -j NFQUEUE --queue-num 28080",
        "-t filter -A INPUT -p udp -j NFQUEUE --queue-balance 28000:28100",
        "-t mangle -A PREROUTING -j CONNMARK --restore-mark",
        "-t mangle -A POSTROUTING -j CONNMARK --save-mark",
        "-t mangle -A POSTROUTING -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xf0000000",
        "-t mangle -A PREROUTING -j CONNMARK --set-mark 1",
        "-t mangle -A PREROUTING -m connmark --mark 1 -j ACCEPT",
        "-t mangle -A PREROUTING -m connmark ! --mark 0/0xf0000000 -j DROP",
    ],
)
def test_a_rule_that_uses_our_mark_or_queue_is_a_conflict(writer: IptablesWriter, lonely_host: Host, rule: str) -> None:
    assert conflicts(writer) == []
    lonely_host.run(writer.name, *rule.split())
    (found,) = conflicts(writer)
    assert found.startswith("iptables")
    assert " -A " in found


@pytest.mark.anywhere
@pytest.mark.parametrize(
    "rule",
    [
        "-t mangle -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff",
        "-t mangle -A PREROUTING -j CONNMARK --set-mark 1/0xff",
        "-t mangle -A PREROUTING -m connmark --mark 1/0xff -j ACCEPT",
        "-t mangle -A PREROUTING -j MARK --set-mark 0x1",
        "-t mangle -A POSTROUTING -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff",
        "-t filter -A INPUT -p udp -j NFQUEUE --queue-num 0",
        "-t filter -A INPUT -p udp -j NFQUEUE --queue-balance 0:3",
        "-t filter -A INPUT -m comment --comment 280 -j ACCEPT",
    ],
)
def test_rules_that_leave_our_bits_alone_are_none(writer: IptablesWriter, lonely_host: Host, rule: str) -> None:
    lonely_host.run(writer.name, *rule.split())
    assert conflicts(writer) == []
    writer.install(ALLOCATION, hold_open=0)


def test_rules_of_a_failed_installation_are_undone(
    writer: IptablesWriter, lonely_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPv4's rules are in place when IPv6's are refused."""
    before = lonely_host.rules()
    script = iptables_rules.install_script

    def broken_for_ipv6(allocation: Allocation, family: int) -> str:
        return script(allocation, family).replace(
            "COMMIT", "-A NO-SUCH-CHAIN -j ACCEPT\nCOMMIT" if family == 6 else "COMMIT"
        )

    monkeypatch.setattr(iptables_rules, "install_script", broken_for_ipv6)
    rules = Rules(writer, ALLOCATION)
    with pytest.raises(errors.FirewallRefused, match="could not add the rules"), rules:
        rules.install(hold_open=0)
    assert lonely_host.rules() == before


@pytest.fixture
def wrapped_tools(empty_path: Path) -> Path:
    """A PATH with the real tools and a shell, where a test can put others in their place."""
    for name in ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"):
        (empty_path / name).symlink_to(shutil.which(name, path="/usr/sbin") or name)
    return empty_path


def replace_tool(folder: Path, name: str, script: str) -> None:
    tool = folder / name
    tool.unlink(missing_ok=True)
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("lacking", "module", "option"),
    [
        ("NFQUEUE", "xt_NFQUEUE", "CONFIG_NETFILTER_XT_TARGET_NFQUEUE"),
        ("bpf", "xt_bpf", "CONFIG_NETFILTER_XT_MATCH_BPF"),
        ("conntrack", "xt_conntrack", "CONFIG_NETFILTER_XT_MATCH_CONNTRACK"),
        ("CONNMARK", "xt_connmark", "CONFIG_NETFILTER_XT_CONNMARK"),
        ("mangle", "iptable_mangle", "CONFIG_IP_NF_MANGLE"),
    ],
)
def test_what_a_kernel_lacks_is_named_after_modprobe_was_tried(
    lonely_host: Host, wrapped_tools: Path, tmp_path: Path, lacking: str, module: str, option: str
) -> None:
    """No kernel at hand lacks these, so a tool plays one that does."""
    before = lonely_host.rules()
    tried = tmp_path / "tried"
    replace_tool(wrapped_tools, "modprobe", f'echo "$2" >> {tried}')
    replace_tool(
        wrapped_tools,
        "iptables-restore",
        f'script=$(/bin/cat); case "$script" in *-X*) ;; *{lacking}*) echo "No such file" >&2; exit 2;; esac\n'
        'echo "$script" | /usr/sbin/iptables-restore "$@"',
    )
    missing = pytest.raises(errors.KernelSupportMissing, match=f"{module}, kernel option {option}")
    with lonely_host.inside(), missing, Rules(IptablesWriter(), ALLOCATION) as rules:
        rules.install(hold_open=0)
    assert module in tried.read_text().split()
    assert lonely_host.rules() == before


@pytest.mark.parametrize(
    ("complaint", "named"),
    [
        (
            "ip6tables-restore v1.8.9 (legacy): ip6tables-restore: unable to initialize table 'mangle'",
            "ip6table_mangle",
        ),
        ("can't initialize ip6tables table 'mangle': Table does not exist (do you need to insmod?)", "ip6table_mangle"),
        ("ip6tables-restore v1.8.9 (nf_tables): line 2: CHAIN_ADD failed (Operation not supported)", "nf_tables"),
    ],
)
def test_where_the_kernel_has_no_table_for_ipv6_ipv4_is_answered_and_a_warning_names_what_is_missing(
    lonely_host: Host, wrapped_tools: Path, caplog: pytest.LogCaptureFixture, complaint: str, named: str
) -> None:
    before = lonely_host.rules()
    replace_tool(wrapped_tools, "ip6tables-restore", f'echo "{complaint}" >&2; exit 1')
    replace_tool(wrapped_tools, "ip6tables-save", f'echo "{complaint}" >&2; exit 1')
    with lonely_host.inside(), Rules(IptablesWriter(), ALLOCATION) as rules:
        rules.install(hold_open=0)
        assert lonely_host.rules().count("NFQUEUE") == 3
    assert lonely_host.rules() == before
    assert "Requests over IPv6 cannot be answered. This kernel has no " in caplog.text
    assert f"module {named}," in caplog.text


@pytest.mark.anywhere
@pytest.mark.parametrize("program", ["iptables-restore", "ip6tables-restore"])
@pytest.mark.parametrize(
    "complaint",
    [
        "iptables-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (must be root)",
        "Fatal: can't open lock file /run/xtables.lock: Read-only file system",
        "iptables-restore v1.8.9 (legacy): Couldn't load match 'bpf':Too many open files",
    ],
)
def test_a_tool_that_does_not_speak_of_the_kernel_is_quoted(
    lonely_host: Host, wrapped_tools: Path, program: str, complaint: str
) -> None:
    before = lonely_host.rules()
    replace_tool(
        wrapped_tools,
        program,
        'script=$(/bin/cat); case "$script" in *-X*) ;; *) '
        f'echo "{complaint}" >&2; exit 1;; esac; echo "$script" | /usr/sbin/{program} "$@"',
    )
    refused = pytest.raises(errors.FirewallRefused, match=re.escape(complaint))
    with lonely_host.inside(), refused, Rules(IptablesWriter(), ALLOCATION) as rules:
        rules.install(hold_open=0)
    assert lonely_host.rules() == before


def test_a_kernel_that_cannot_remember_addresses_gets_the_other_rules(lonely_host: Host, wrapped_tools: Path) -> None:
    """Then only untracked connections are not answered."""
    for program in ("iptables-restore", "ip6tables-restore"):
        replace_tool(
            wrapped_tools,
            program,
            'script=$(/bin/cat); case "$script" in *recent*) echo "No such file" >&2; exit 2;; esac\n'
            f'echo "$script" | /usr/sbin/{program} "$@"',
        )
    with lonely_host.inside():
        IptablesWriter().install(ALLOCATION, hold_open=0)
    assert " -m recent " not in lonely_host.rules()
    assert lonely_host.rules().count("-j CONNMARK --set-xmark 0x10000000/0x10000000") == 2


@pytest.mark.anywhere
def test_a_tool_that_fails_for_another_reason_is_quoted(lonely_host: Host, wrapped_tools: Path) -> None:
    """It takes every rule by itself, so it is no feature that is missing."""
    replace_tool(
        wrapped_tools,
        "iptables-restore",
        'script=$(/bin/cat); case "$script" in *ctorigdstport*) echo "the disk is full" >&2; exit 1;; esac\n'
        'echo "$script" | /usr/sbin/iptables-restore "$@"',
    )
    with lonely_host.inside(), pytest.raises(errors.FirewallRefused, match="the disk is full"):
        IptablesWriter().install(ALLOCATION, hold_open=0)


@pytest.mark.anywhere
def test_warnings_of_a_tool_that_succeeds_are_no_error(lonely_host: Host, wrapped_tools: Path) -> None:
    replace_tool(
        wrapped_tools,
        "iptables-restore",
        'echo "# Warning: legacy tables present" >&2; exec /usr/sbin/iptables-restore "$@"',
    )
    with lonely_host.inside():
        IptablesWriter().install(ALLOCATION, hold_open=0)
        IptablesWriter().remove(ALLOCATION.run_id, 80)


@pytest.mark.anywhere
def test_without_iptables_the_error_says_what_to_install(empty_path: Path) -> None:
    assert not list(empty_path.iterdir())
    with pytest.raises(
        errors.NoFirewallTool, match=r"no program iptables in .* Install your distribution's iptables package"
    ):
        IptablesWriter()


@pytest.mark.anywhere
@pytest.mark.root  # as iptables is installed for these tests
def test_the_sbin_folders_are_searched_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert IptablesWriter().name == "iptables"
    assert find_program("iptables")


def test_a_machine_without_ipv6_gets_rules_for_ipv4_alone(lonely_host: Host) -> None:
    lonely_host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.lo.disable_ipv6=1")
    with lonely_host.inside():
        IptablesWriter("iptables-nft").install(ALLOCATION, hold_open=0)
    assert lonely_host.rules().count("NFQUEUE") == 3


def test_a_machine_without_ip6tables_gets_rules_for_ipv4_and_a_warning(
    lonely_host: Host, wrapped_tools: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (wrapped_tools / "ip6tables").unlink()
    with lonely_host.inside():
        IptablesWriter().install(ALLOCATION, hold_open=0)
    assert lonely_host.rules().count("NFQUEUE") == 3
    assert "IPv6 cannot be answered" in caplog.text


@pytest.mark.anywhere
def test_a_lock_that_is_held_too_long_is_told_as_such(
    lonely_host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that no other test waits for."""
    monkeypatch.setattr(iptables, "LOCK_SECONDS", 1)
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    with (tmp_path / "lock").open("a") as lock, contextlib.ExitStack() as stack:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stack.callback(fcntl.flock, lock, fcntl.LOCK_UN)
        stack.enter_context(lonely_host.inside())
        with pytest.raises(errors.ResourceInUse, match=r"waited 1 seconds .* /run/xtables.lock"):
            IptablesWriter("iptables-legacy").install(ALLOCATION, hold_open=0)


@pytest.mark.anywhere
def test_a_tool_that_never_ends_is_ended(
    lonely_host: Host, wrapped_tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iptables, "TIMEOUT", 0.2)
    replace_tool(wrapped_tools, "iptables-save", "exec /bin/sleep 60")
    with lonely_host.inside(), pytest.raises(errors.Error, match=r"did not end within 0.2 seconds"):
        IptablesWriter().installed()

"""The rules as nft's text, and in a real kernel; with a counter in place of the queue where that has none for nft."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, RunId, Selection, run_ids
from certbot_standalone_nfq.capture.nftables import program
from certbot_standalone_nfq.capture.nftables import rules as nftables_rules
from certbot_standalone_nfq.capture.nftables.backend import NftablesWriter
from certbot_standalone_nfq.capture.nftables.program import Session
from certbot_standalone_nfq.capture.nftables.selector import Payload
from certbot_standalone_nfq.challenges.http01.solver import REQUEST_PREFIX, Http01Solver
from certbot_standalone_nfq.host.firewall.reader import take_snapshot
from lab.hosts import Host, kernel_can, kernel_can_own_tables, kernel_can_queue_by_nft
from lab.processes import children, has_ended, wait_until
from tests.capture.bpf.test_selector import expected

SELECTORS = Http01Solver.selectors(80)
ALLOCATION = Allocation(SELECTORS, RunId(28080, "0f1e"), Marks(0x10000000, 0x20000000))
TABLE = "inet certbot-nfq-28080-0f1e"
QUEUE = "queue num 28080 bypass"
NFT = shutil.which("nft", path="/usr/sbin:/sbin") or "nft"
CAN_OWN = kernel_can_own_tables()
PAYLOADS = [
    *([Payload.INNER_HEADER] if kernel_can("nft", "add table t; add chain t c; add rule t c @ih,0,8 0") else []),
    Payload.TRANSPORT_HEADER,
]


@pytest.fixture
def host(lonely_host: Host) -> Iterator[Host]:
    with lonely_host.inside():
        yield lonely_host


@pytest.fixture
def session(host: Host) -> Iterator[Session]:
    started = Session(NFT, ())
    yield started
    started.close()


def started_session() -> tuple[Session, int]:
    """Return nft kept running, and its process id."""
    before = children(os.getpid())
    started = Session(NFT, ())
    (process_id,) = children(os.getpid()) - before
    return started, process_id


def counting(payload: Payload = PAYLOADS[0]) -> list[str]:
    """Return the commands of a run that counts where it would queue."""
    return [
        command.replace(QUEUE, "counter") for command in nftables_rules.install_commands(ALLOCATION, payload, CAN_OWN)
    ]


def test_the_rules_that_lead_to_ours_read_as_designed() -> None:
    commands = nftables_rules.install_commands(ALLOCATION, Payload.INNER_HEADER, owned=True)
    assert commands[0].startswith(f"table {TABLE} {{ flags owner; set four {{ type ipv4_addr . inet_service . ")
    assert commands[-2:] == [
        f"add chain {TABLE} input {{ type filter hook input priority -151; policy accept; }}; "
        f"add rule {TABLE} input tcp dport 80 goto pick; "
        f"add rule {TABLE} input meta l4proto tcp ct direction original ct original proto-dst 80 goto pick",
        f"add chain {TABLE} forward {{ type filter hook forward priority -151; policy accept; }}; "
        f"add rule {TABLE} forward meta l4proto tcp ct status assured "
        "ct direction original ct original proto-dst 80 goto pick",
    ]


def test_a_whole_beginning_is_compared_by_two_loads() -> None:
    first = next(command for command in counting(Payload.INNER_HEADER) if " compare " in command and "@ih" in command)
    assert f" compare @ih,0,128 0x{REQUEST_PREFIX[:16].hex()} @ih,128,128 0x{REQUEST_PREFIX[16:].hex()} goto" in first


def test_where_every_packet_is_queued_nothing_is_remembered() -> None:
    for selection in (Selection.PORT, Selection.STATELESS_PORT):
        allocation = Allocation(SELECTORS, ALLOCATION.run_id, ALLOCATION.marks, selection)
        text = "\n".join(nftables_rules.install_commands(allocation, Payload.INNER_HEADER, owned=True))
        assert "@" not in text
        assert ("ct direction" in text) == (selection is Selection.PORT)


BEGINNINGS = [
    *(REQUEST_PREFIX[:length] for length in range(1, len(REQUEST_PREFIX) + 1)),
    *(REQUEST_PREFIX[:length] + b"?" for length in range(1, len(REQUEST_PREFIX))),
    *(REQUEST_PREFIX[:length] + b"?" + REQUEST_PREFIX[length + 1 :] for length in range(len(REQUEST_PREFIX))),
    REQUEST_PREFIX + b"x" * 1200,
    b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"POST",
]


@pytest.mark.parametrize("timestamps", ["0", "1"], ids=["short-header", "long-header"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_begins_like_a_challenge_request_is_found_and_its_connection_remembered(
    host: Host, session: Session, payload: Payload, address: str, timestamps: str
) -> None:
    host.run("sysctl", "-qw", f"net.ipv4.tcp_timestamps={timestamps}")
    session.run(counting(payload))
    sent: dict[int, bytes] = {}
    with socket.create_server((address, 80), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        for octets in BEGINNINGS:
            with socket.create_connection((address, 80)) as client:
                client.sendall(octets)
                accepted, (_, port, *_) = listener.accept()
                with accepted:
                    assert accepted.recv(len(octets), socket.MSG_WAITALL) == octets
                sent[port] = octets
    listed = host.run("nft", "list", "set", *TABLE.split(), "six" if ":" in address else "four")
    found = {int(port) for port in re.findall(rf"{re.escape(address)} \. (\d+) \. {re.escape(address)}", listed)}
    assert {sent[port] for port in found} == set(filter(expected, BEGINNINGS))


def test_a_connection_that_is_let_go_is_forgotten_and_the_mark_taken_off(host: Host, session: Session) -> None:
    """The kernel's own mark on the socket's packets plays the verdict's."""
    session.run(counting())
    host.run("nft", "add table inet other; add chain inet other in { type filter hook input priority 0; }")
    host.run("nft", "add rule inet other in meta mark != 0 counter")
    released = ALLOCATION.marks.released
    with socket.create_server(("127.0.0.1", 80)), socket.create_connection(("127.0.0.1", 80)) as client:
        client.sendall(REQUEST_PREFIX)
        assert "127.0.0.1 ." in host.run("nft", "list", "set", *TABLE.split(), "four")
        host.run("nft", "add chain inet other out { type filter hook output priority 0; }")
        host.run("nft", f"add rule inet other out tcp dport 80 meta mark set {released}")
        client.sendall(b"more")
        assert "127.0.0.1 ." not in host.run("nft", "list", "set", *TABLE.split(), "four")
    assert "packets 0" in host.run("nft", "list", "chain", "inet", "other", "in")


if CAN_OWN:

    def test_a_table_vanishes_with_the_nft_that_owns_it(host: Host) -> None:
        session, process_id = started_session()
        session.run(counting())
        assert run_ids(host.run("nft", "list", "tables")) == {ALLOCATION.run_id}
        os.kill(process_id, signal.SIGKILL)
        wait_until(lambda: not host.run("nft", "list", "tables"), "the table is gone")
        session.close()

    def test_a_flush_of_all_rules_spares_an_owned_table(host: Host, session: Session) -> None:
        session.run(counting())
        host.run("nft", "flush", "ruleset")
        assert run_ids(host.run("nft", "list", "tables")) == {ALLOCATION.run_id}


def test_commands_that_nft_refuses_are_an_error_in_its_words_and_the_session_goes_on(session: Session) -> None:
    with pytest.raises(errors.FirewallRefused, match="No such file or directory"):
        session.run(["delete table inet nowhere"])
    session.run(["add table inet t"])


def test_an_nft_that_has_ended_is_an_error(host: Host) -> None:
    session, process_id = started_session()
    os.kill(process_id, signal.SIGKILL)
    wait_until(lambda: has_ended(process_id), "nft has ended")
    for _ in range(2):
        with pytest.raises(errors.FirewallRefused):
            session.run(["add table inet t"])
    session.close()


def test_an_nft_that_never_answers_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "TIMEOUT", 0.2)
    silent = tmp_path / "nft"
    silent.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    silent.chmod(0o755)
    session = Session(str(silent), ())
    with pytest.raises(errors.Error, match=r"did not end within 0.2 seconds"):
        session.run(["add table inet t"])
    session.close()


def test_the_users_history_of_commands_is_left_alone(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    session = Session(NFT, ())
    session.run(["add table inet t"])
    session.close()
    assert os.listdir(tmp_path) == []


def test_without_nft_the_error_says_what_to_install(empty_path: Path) -> None:
    with pytest.raises(
        errors.NoFirewallTool, match=r"no program nft in .* Install your distribution's nftables package"
    ):
        NftablesWriter()


def conflicts() -> list[str]:
    return [rule.text for rule in take_snapshot().rules if NftablesWriter().conflicts(ALLOCATION, rule)]


@pytest.mark.parametrize(
    "rule",
    [
        "udp dport 53 meta mark set 0x10000000",
        "meta mark & 0xf0000000 == 0x30000000 drop",
        "ct mark set ct mark or 0x20000000",
        "meta mark { 0x1, 0x20000000 } drop",
    ],
)
def test_a_rule_that_uses_our_mark_is_a_conflict(host: Host, rule: str) -> None:
    host.run("nft", "add table inet t; add chain inet t c")
    assert conflicts() == []
    host.run("nft", f"add rule inet t c {rule}")
    (found,) = conflicts()
    assert found.startswith("nft table inet t, chain c, handle ")


@pytest.mark.parametrize(
    "rule",
    [
        "meta mark set ct mark",
        "meta mark set meta mark & 0xcfffffff",
        "meta mark set 0x1",
        "tcp dport 80 accept",
        'accept comment "mark 28080"',
    ],
)
def test_rules_that_leave_our_bits_alone_are_none(host: Host, rule: str) -> None:
    host.run("nft", f"add table inet t; add chain inet t c; add rule inet t c {rule}")
    assert conflicts() == []


@pytest.mark.parametrize(
    ("lacking", "module"), [("queue", "nft_queue"), ("ct direction", "nft_ct"), ("table inet", "nf_tables")]
)
def test_what_a_kernel_lacks_is_named_after_modprobe_was_tried(
    host: Host, empty_path: Path, tmp_path: Path, lacking: str, module: str
) -> None:
    """A program plays an nft whose kernel lacks something."""
    tried = tmp_path / "tried"
    (empty_path / "modprobe").write_text(f'#!/bin/sh\necho "$2" >> {tried}\n')
    (empty_path / "nft").write_text(
        "#!/bin/sh\n"
        'while read -r line; do case "$line" in\n'
        f'*"{lacking}"*) echo "Error: Could not process rule: No such file" >&2; bad=1;;\n'
        '"describe tcp dport") echo "payload expression, datatype inet_service";;\n'
        "esac; done; exit ${bad:-0}\n"
    )
    for pretended in empty_path.iterdir():
        pretended.chmod(0o755)
    with pytest.raises(errors.KernelSupportMissing, match=f"module {module}, kernel option CONFIG_N"):
        NftablesWriter().install(ALLOCATION, hold_open=0)
    assert module in tried.read_text().split()


if kernel_can_queue_by_nft():

    @pytest.mark.parametrize("selection", Selection)
    def test_what_is_installed_is_removed_to_the_last_rule(host: Host, selection: Selection) -> None:
        before = host.rules()
        writer = NftablesWriter()
        allocation = Allocation(SELECTORS, ALLOCATION.run_id, ALLOCATION.marks, selection)
        writer.install(allocation, hold_open=0)
        assert writer.installed() == {ALLOCATION.run_id}
        assert writer.withdraw(allocation)
        withdrawn = host.run("nft", "list", "table", *TABLE.split())
        assert "policy accept" in withdrawn
        assert "goto pick" not in withdrawn
        writer.remove(ALLOCATION.run_id, 80)
        assert host.rules() == before

else:

    def test_a_kernel_without_the_queue_statement_is_told_as_such(host: Host) -> None:
        with pytest.raises(errors.KernelSupportMissing, match="queue statement for nftables: module nft_queue"):
            NftablesWriter().install(ALLOCATION, hold_open=0)
        assert host.run("nft", "list", "tables") == ""

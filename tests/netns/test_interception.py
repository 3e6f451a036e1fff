"""The interception between real hosts: what the client sees, what the server sees, what the wire saw."""

from __future__ import annotations

import socket
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq.wire.flags import Flags
from lab.capture import capture, flags
from lab.http import CLOSE, KEPT_PAGE_REQUEST, PAGE_REQUEST, ask, body, read_all, read_response, request, reset_on_close
from lab.interceptor import CLIENTS, EBPF, IPTABLES, KEY_AUTHORIZATION, KINDS, TOKEN, VARIANTS, intercepting
from lab.nginx import OTHER_ANSWER, OTHER_TOKEN, PAGE
from lab.processes import wait_until
from tests.netns.conftest import Lab

FAMILIES = ["ipv4", "ipv6"]
NOT_FOUND = "HTTP/1.1 404 Not Found"


WAYS = [
    *((variant, client, "prefilter") for variant in VARIANTS for client in CLIENTS),
    *((each, "netlink", "prefilter") for each in EBPF),
    *((variant, client, "port") for variant, client in zip(VARIANTS, CLIENTS * 3)),
    *((kind, "netlink", "stateless-port") for kind in KINDS),
]


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def active(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The laboratory while one token is pending, by each firewall tool, queue client and selection of packets."""
    variant, client, selection = request.param
    with intercepting(lab.server, capture=variant, queue_client=client, selection=selection):
        yield lab


@pytest.fixture(params=FAMILIES)
def address(active: Lab, request: pytest.FixtureRequest) -> str:
    return str(getattr(active.server, request.param))


@pytest.mark.firewall
@pytest.mark.essential
def test_a_challenge_is_answered_and_the_server_never_sees_it(active: Lab, address: str) -> None:
    log = active.nginx.access_log
    assert body(ask(active.client, address)) == KEY_AUTHORIZATION
    assert active.nginx.access_log == log


@pytest.mark.firewall
def test_the_client_sees_a_clean_connection(active: Lab, address: str, tmp_path: Path) -> None:
    """No reset, no retransmission, no complaint of its kernel; its close is acknowledged; nothing is left over."""
    before = active.client.complaints()
    with capture(active.client, tmp_path / "client.pcap") as captured:
        assert body(ask(active.client, address)) == KEY_AUTHORIZATION
        wait_until(lambda: not active.client.closing(), "the client's close is acknowledged")
    assert active.client.complaints() == before
    segments = captured.segments()
    assert flags(segments) == ["S", "SA", "PA", "FPA", "FA", "A"]
    port = segments[0]["TCP"].sport
    wait_until(lambda: not active.server.run("ss", "-tanH", f"dport = :{port}"), "the server keeps nothing of it")


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (PAGE_REQUEST, PAGE),
        (request(OTHER_TOKEN, headers=CLOSE), OTHER_ANSWER),
        (request("unknown", headers=CLOSE), NOT_FOUND),
        (request(method="POST", headers=CLOSE), NOT_FOUND),
        (request(method="HEAD", headers=CLOSE), NOT_FOUND),
        (request(TOKEN + "x", headers=CLOSE), NOT_FOUND),
        (request(TOKEN + "?x", headers=CLOSE), NOT_FOUND),
        (request(TOKEN + "/", headers=CLOSE), NOT_FOUND),
        (b"not http at all\r\n\r\n", "HTTP/1.1 400 Bad Request"),
    ],
    ids=["page", "other client's token", "unknown", "POST", "HEAD", "longer", "query", "slash", "garbage"],
)
def test_everything_else_is_the_servers(active: Lab, address: str, octets: bytes, expected: str) -> None:
    lines = active.nginx.requests()
    assert body(ask(active.client, address, octets)) == expected
    wait_until(lambda: active.nginx.requests() == lines + 1, "the server has logged it")


@pytest.mark.firewall
def test_a_kept_connections_later_challenge_is_answered(active: Lab, address: str) -> None:
    with active.client.connect(address) as connection:
        for _ in range(3):
            connection.sendall(KEPT_PAGE_REQUEST)
            assert body(read_response(connection)) == PAGE
        connection.sendall(request("unknown"))
        assert body(read_response(connection)) == NOT_FOUND
        connection.sendall(request())
        assert body(read_all(connection)) == KEY_AUTHORIZATION


def test_a_source_port_may_be_reused_at_once(active: Lab, address: str) -> None:
    port = 0
    for round_ in range(6):
        with active.client.connect(address, source_port=port) as connection:
            port = connection.getsockname()[1]
            reset_on_close(connection)
            challenge = round_ % 2 == 0
            connection.sendall(request() if challenge else KEPT_PAGE_REQUEST)
            assert body(read_response(connection)) == (KEY_AUTHORIZATION if challenge else PAGE)


def test_a_half_closed_client_gets_its_answer(active: Lab, address: str) -> None:
    with active.client.connect(address) as connection:
        connection.sendall(request())
        connection.shutdown(socket.SHUT_WR)
        assert body(read_all(connection)) == KEY_AUTHORIZATION


def test_a_client_that_vanishes_leaves_the_server_nothing(active: Lab, address: str) -> None:
    with active.client.connect(address) as connection:
        reset_on_close(connection)
        connection.sendall(request())
    wait_until(lambda: "ESTAB" not in active.server.run("ss", "-tanH", "sport = :80"), "the server let go of it")


@pytest.mark.anywhere
@pytest.mark.parametrize("octets", [1_700, 5_000])
def test_a_request_that_is_longer_than_what_is_shown_of_a_packet_is_answered(
    active: Lab, address: str, octets: int
) -> None:
    log = active.nginx.access_log
    before = active.server.closing()
    assert body(ask(active.client, address, request(headers=f"Cookie: {'x' * octets}\r\n"))) == KEY_AUTHORIZATION
    assert active.nginx.access_log == log
    wait_until(lambda: active.server.closing() == before, "the server's end of the connection is gone")


def test_many_requests_at_once_are_all_answered(active: Lab, address: str) -> None:
    connections = [active.client.connect(address) for _ in range(60)]
    for connection in connections:
        connection.sendall(request())
    assert {body(read_all(connection)) for connection in connections} == {KEY_AUTHORIZATION}
    for connection in connections:
        connection.close()


@pytest.mark.anywhere
def test_tokens_that_begin_with_each_character_are_answered(lab: Lab) -> None:
    alphabet = string.ascii_letters + string.digits + "-_"
    answers = {f"{character}{alphabet[::-1][:42]}": f"answer.{character}" for character in alphabet}
    with intercepting(lab.server, answers):
        for token, answer in answers.items():
            assert body(ask(lab.client, lab.server.ipv4, request(token))) == answer


@pytest.mark.firewall
@pytest.mark.parametrize("family", FAMILIES)
def test_a_connection_older_than_the_rules_is_answered(lab: Lab, family: str) -> None:
    with lab.client.connect(getattr(lab.server, family)) as connection:
        connection.sendall(KEPT_PAGE_REQUEST)
        read_response(connection)
        with intercepting(lab.server):
            connection.sendall(request())
            assert body(read_all(connection)) == KEY_AUTHORIZATION


@pytest.mark.firewall
def test_an_older_connection_on_which_the_server_spoke_first_is_answered(lab: Lab) -> None:
    """Connection tracking, which begins with the rules, takes the server for the one who opened the connection."""
    with lab.server.inside(), socket.create_server(("", 8083)) as listener:
        connection = lab.client.connect(lab.server.ipv4, 8083)
        accepted, _ = listener.accept()
    with connection, accepted, intercepting(lab.server, port=8083):
        accepted.sendall(b"early")
        assert connection.recv(5) == b"early"
        connection.sendall(request())
        assert body(read_all(connection)) == KEY_AUTHORIZATION


@pytest.mark.parametrize("family", FAMILIES)
def test_peers_without_timestamps_or_window_scaling_are_answered(lab: Lab, family: str) -> None:
    settings = ("net.ipv4.tcp_timestamps", "net.ipv4.tcp_window_scaling", "net.ipv4.tcp_sack")
    lab.client.run("sysctl", "-qw", *(f"{setting}=0" for setting in settings))
    try:
        with intercepting(lab.server):
            assert body(ask(lab.client, getattr(lab.server, family))) == KEY_AUTHORIZATION
    finally:
        lab.client.run("sysctl", "-qw", *(f"{setting}=1" for setting in settings))


@pytest.mark.firewall
def test_clients_on_the_same_machine_are_answered_too(lab: Lab) -> None:
    with intercepting(lab.server):
        for address in ("127.0.0.1", "::1", lab.server.ipv4, lab.server.ipv6):
            assert body(ask(lab.server, address)) == KEY_AUTHORIZATION


def test_a_server_with_deferred_accept_is_rid_of_the_connection(lab: Lab) -> None:
    with lab.server.inside(), socket.socket() as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        listener.bind(("", 8081))
        listener.listen()
        with intercepting(lab.server, port=8081):
            assert body(ask(lab.client, lab.server.ipv4, port=8081)) == KEY_AUTHORIZATION
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()


@pytest.mark.firewall
def test_the_http01_port_may_be_another(lab: Lab) -> None:
    with lab.server.inside(), socket.create_server(("", 8082)), intercepting(lab.server, port=8082):
        assert body(ask(lab.client, lab.server.ipv4, port=8082)) == KEY_AUTHORIZATION
        assert body(ask(lab.client, lab.server.ipv4, request(OTHER_TOKEN, headers=CLOSE))) != PAGE


def users_program(variant: str) -> str:
    """Return the program for a user's own rules, which are to be in the same place as ours if that is iptables'."""
    return variant if variant in IPTABLES else "iptables-nft"


@pytest.mark.firewall
@pytest.mark.essential
def test_the_users_own_rules_see_released_packets_as_if_we_were_not_there(lab: Lab) -> None:
    """Rules behind ours, in the same chain, count a request that was queued and let go, and see no mark of ours."""
    rules = [
        ("INPUT", "-p", "tcp", "--dport", "80", "-m", "string", "--algo", "bm", "--string", "unknown-token"),
        ("INPUT", "-p", "tcp", "--dport", "80", "-m", "mark", "!", "--mark", "0"),
        ("INPUT", "-p", "tcp", "--dport", "80", "-m", "connmark", "!", "--mark", "0"),
    ]
    for variant in VARIANTS:
        program = users_program(variant)
        with intercepting(lab.server, capture=variant):
            for rule in rules:
                lab.server.run(program, "-t", "mangle", "-A", *rule)
            ask(lab.client, lab.server.ipv4, request("unknown-token", headers=CLOSE))
            listed = lab.server.run(program, "-t", "mangle", "-nvxL", "INPUT").splitlines()[-3:]
            for rule in rules:
                lab.server.run(program, "-t", "mangle", "-D", *rule)
        assert [int(line.split()[0]) for line in listed] == [1, 0, 0]


@pytest.mark.firewall
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_packet_keeps_our_mark_when_its_connection_is_let_go_meanwhile(fresh_lab: Lab, variant: str) -> None:
    """Of two segments in the queue at once, the first releases the connection; the second comes back to the rules."""
    rule = ("INPUT", "-p", "tcp", "--dport", "80", "-m", "mark", "!", "--mark", "0")
    program = users_program(variant)
    with intercepting(fresh_lab.server, capture=variant):
        fresh_lab.server.run(program, "-t", "mangle", "-A", *rule)
        connections = [fresh_lab.client.connect(fresh_lab.server.ipv4) for _ in range(50)]
        for connection in connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(request("somebody-elses"))
            connection.sendall(PAGE_REQUEST)
        for connection in connections:
            assert PAGE.encode() in read_all(connection)
            connection.close()
        listed = fresh_lab.server.run(program, "-t", "mangle", "-nvxL", "INPUT").splitlines()[-1]
        fresh_lab.server.run(program, "-t", "mangle", "-D", *rule)
    assert int(listed.split()[0]) == 0


@pytest.mark.firewall
def test_marks_that_the_user_copies_from_connections_to_packets_do_no_harm(lab: Lab) -> None:
    restore = ("PREROUTING", "-j", "CONNMARK", "--restore-mark")
    lab.server.run("iptables", "-t", "mangle", "-A", *restore)
    try:
        with intercepting(lab.server):
            before = lab.client.complaints()
            assert body(ask(lab.client, lab.server.ipv4)) == KEY_AUTHORIZATION
            wait_until(lambda: not lab.client.closing(), "the client's close is acknowledged")
            assert lab.client.complaints() == before
    finally:
        lab.server.run("iptables", "-t", "mangle", "-D", *restore)


@pytest.mark.firewall
def test_a_request_in_pieces_is_answered_and_a_bystander_in_pieces_served(active: Lab, address: str) -> None:
    for octets, expected in ((request(), KEY_AUTHORIZATION), (PAGE_REQUEST, PAGE)):
        with active.client.connect(address) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for index in range(len(octets)):
                connection.sendall(octets[index : index + 1])
            assert body(read_all(connection)) == expected


def test_every_captured_segment_of_ours_carries_the_flags_of_an_open_connection(active: Lab, tmp_path: Path) -> None:
    with capture(active.client, tmp_path / "flags.pcap", "tcp src port 80") as captured:
        for family in FAMILIES:
            ask(active.client, getattr(active.server, family))
    assert all(
        int(each["TCP"].flags) & Flags.ACK and not int(each["TCP"].flags) & Flags.RST for each in captured.segments()
    )

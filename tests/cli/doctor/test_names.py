from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from certbot_standalone_nfq.cli.doctor.caa_records import allows
from certbot_standalone_nfq.cli.doctor.names import understood
from lab import doctor
from lab.dns import Dns, answering
from lab.doctor import NAME
from lab.hosts import Host
from lab.nginx import nginx


def no_such_name(query: bytes) -> bytes:
    return query[:2] + b"\x81\x83" + query[4:6] + bytes(6) + query[12:]


def test_a_name_with_an_ipv6_address_that_nothing_listens_on_is_a_warning(
    pair: tuple[Host, Host], named: Dns, tmp_path: Path
) -> None:
    server = pair[1]
    named.address(NAME, server.ipv4, server.ipv6)
    with nginx(server, tmp_path / "nginx", listen="listen 80;"):
        report = doctor.examine(server, NAME)
    assert f"{NAME} has AAAA {server.ipv6}" in report.seen("name", "warn")
    assert f"{NAME} has A {server.ipv4}" in report.seen("name", "pass")
    assert report.status == 0


def test_an_address_that_is_not_ours_is_a_warning(server: Host, named: Dns) -> None:
    named.address(NAME, "203.0.113.9")
    report = doctor.examine(server, NAME)
    assert "203.0.113.9, not an address of this machine" in report.seen("name", "warn")
    assert "fine if a router forwards it here" in report.seen("name", "warn")
    assert report.status == 0


def test_no_address_is_called_ours_where_any_can_be_bound_to(server: Host, named: Dns) -> None:
    named.address(NAME, "203.0.113.9")
    server.run("sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1")
    assert "cannot determine whether that is this machine's" in doctor.examine(server, NAME).seen("name", "warn")


def test_a_loopback_address_is_a_warning_about_etc_hosts(server: Host, named: Dns) -> None:
    named.address(NAME, "127.0.1.1")
    assert "/etc/hosts" in doctor.examine(server, NAME).seen("name", "warn")


def test_a_name_without_addresses_and_what_is_no_name_fail(server: Host) -> None:
    names = ("nowhere.example.com", f"{'a' * 80}.example.com", "two..dots")
    with answering(server, no_such_name):
        report = doctor.examine(server, *names)
    assert "any CA may issue" in report.seen("CAA", "pass")
    for seen in (
        "nowhere.example.com has no address",
        "aaa.example.com' cannot",
        "two..dots",
    ):
        assert seen in report.seen("name", "fail")


def test_an_address_in_place_of_a_name_is_looked_at_without_dns(server: Host) -> None:
    report = doctor.examine(server, server.ipv4, server.ipv6)
    assert report.bad == []
    assert report.seen("CAA") == ""
    report = doctor.examine(server, "203.0.113.9", "127.0.0.1")
    assert "203.0.113.9, not an address of this machine" in report.seen("name", "warn")
    assert "record" not in report.seen("name")
    assert "127.0.0.1, a loopback address" in report.seen("name", "fail")


def test_caa_records_are_shown_with_the_name_they_were_found_at(server: Host, named: Dns) -> None:
    named.caa("example.com", "ca.example.net", "other.example.net; validationmethods=dns-01")
    named.address(NAME, server.ipv4)
    seen = doctor.examine(server, NAME).seen("CAA", "pass")
    assert f'{NAME}: CAA records of example.com: issue "ca.example.net"' in seen


def test_no_caa_records_are_no_obstacle(server: Host, named: Dns) -> None:
    assert "any CA may issue" in doctor.examine(server, NAME).seen("CAA", "pass")


@pytest.mark.parametrize("value", [";", "ca.example.net; validationmethods=dns-01,tls-alpn-01"])
def test_caa_records_that_forbid_http01_fail(server: Host, named: Dns, value: str) -> None:
    named.caa(NAME, value)
    report = doctor.examine(server, NAME)
    assert "None allows http-01" in report.seen("CAA", "fail")
    assert report.status == 1


def test_caa_that_cannot_be_had_is_a_warning(server: Host, named: Dns) -> None:
    named.fail(NAME)
    assert "no usable answer from 127.0.0.1 (SERVFAIL)" in doctor.examine(server, NAME).seen("CAA", "warn")


def test_a_garbage_answer_is_a_warning(server: Host) -> None:
    with answering(server, lambda query: query[:2] + b"\x81\x80" + b"\xff" * 8 + b"\xc0\x0c" * 50):
        report = doctor.examine(server, NAME)
    assert "no usable answer from 127.0.0.1" in report.seen("CAA", "warn")


def pointer_bomb(query: bytes) -> bytes:
    """Answer with 20,000 names (a HIP record's servers, RFC 8005) that are each a chain of 8,000 pointers."""
    chain = b"\0" + b"".join(struct.pack("!H", 0xC000 | at) for at in _chained(len(query) + 12))
    servers = chain[-2:] * 20_000
    records = (65280, chain), (55, b"\1\1\0\1ak" + servers)
    written = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(data)) + data for kind, data in records)
    return query[:2] + b"\x81\x80\0\1\0\2\0\0\0\0" + query[12:] + written


def _chained(begin: int) -> list[int]:
    """Return where the pointers of a chain point that begins behind the root label there."""
    return [begin, *range(begin + 1, 0x3FFC, 2)]


def test_an_answer_that_takes_minutes_to_read_does_not_hold_the_doctor_up(server: Host) -> None:
    with answering(server, pointer_bomb):
        report = doctor.examine(server, NAME)
    assert report.seconds < 5
    assert re.search("no usable answer from|did not end in time", report.seen("CAA", "warn"))


def test_without_dnspython_the_check_is_a_warning_that_says_so(
    server: Host, named: Dns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dns").mkdir()
    (tmp_path / "dns/__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'dns'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    report = doctor.examine(server, NAME)
    assert f"{NAME}: dnspython cannot be loaded: No module named 'dns'. Install" in report.seen("CAA", "warn")


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
    assert allows(value, "http-01") is allowed


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("example.com", "example.com"),
        ("http://example.com/", "example.com"),
        ("https://user@example.com:8443/path?x#y", "example.com"),
        ("example.com:80", "example.com"),
        ("10.0.0.2:80", "10.0.0.2"),
        ("[fd98::2]", "fd98::2"),
        ("http://[fd98::2]:80/", "fd98::2"),
        ("fd98::2", "fd98::2"),
        ("b\xfccher.example", "xn--bcher-kva.example"),
        ("*.example.com", "*.example.com"),
        ("two..dots\xfc", "two..dots\xfc"),
        ("[no address]", "[no address]"),
    ],
)
def test_names_are_understood_as_users_give_them(given: str, name: str) -> None:
    assert understood(given) == name


def test_an_address_given_as_a_url_is_looked_at_like_any(server: Host) -> None:
    report = doctor.examine(server, f"http://{server.ipv4}/", f"[{server.ipv6}]:80")
    assert report.bad == []
    assert f"{server.ipv4}, an address of this machine" in report.seen("name", "pass")
    assert f"{server.ipv6}, an address of this machine" in report.seen("name", "pass")


def test_more_names_than_are_looked_up_at_once_are_all_looked_up(server: Host) -> None:
    report = doctor.examine(server, *(f"192.0.2.{number}" for number in range(1, 151)))
    assert sum(found["check"] == "name" for found in report.findings) == 150
    assert "in time" not in report.seen("name")

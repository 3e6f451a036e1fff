from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certbot_standalone_nfq.host.caa import Caa, caa_records
from certbot_standalone_nfq.host.dns.questions import Unreadable
from lab.dns import answering
from lab.hosts import Host

pytestmark = pytest.mark.anywhere

NAME = "www.example.com"
RECORD = '128 ISSUE "ca.example.net"'
READ = Caa("issue", "ca.example.net")


def answer(query: bytes, *records: str, code: dns.rcode.Rcode = dns.rcode.NOERROR, flags: int = 0) -> bytes:
    """Answer a query with records, each `owner type data`."""
    response = dns.message.make_response(dns.message.from_wire(query))
    response.set_rcode(code)
    response.flags |= flags
    for record in records:
        owner, kind, data = record.split(" ", 2)
        response.answer.append(dns.rrset.from_text(owner, 60, "IN", kind, data))
    return response.to_wire()


def zone(records: dict[str, list[str]], asked: list[str] | None = None) -> Callable[[bytes], bytes]:
    """Return a nameserver of these names; the others do not exist."""

    def serve(query: bytes) -> bytes:
        name = dns.message.from_wire(query).question[0].name.to_text()
        if asked is not None:
            asked.append(name)
        return answer(query, *records.get(name, ()), code=dns.rcode.NOERROR if name in records else dns.rcode.NXDOMAIN)

    return serve


def test_a_record_is_read_with_its_tag_and_value(lonely_host: Host) -> None:
    with answering(lonely_host, zone({f"{NAME}.": [f"{NAME}. CAA {RECORD}"]})) as resolv_conf:
        assert caa_records(NAME, 5, resolv_conf) == (NAME, [READ])
        assert caa_records(f"{NAME}.", 5, resolv_conf) == (NAME, [READ])


def test_a_nameserver_of_ipv6_is_asked(lonely_host: Host) -> None:
    with answering(lonely_host, zone({f"{NAME}.": [f"{NAME}. CAA {RECORD}"]}), address="::1") as resolv_conf:
        assert caa_records(NAME, 5, resolv_conf) == (NAME, [READ])


def test_the_records_of_the_nearest_parent_hold_and_the_root_is_not_asked(lonely_host: Host) -> None:
    asked: list[str] = []
    records: dict[str, list[str]] = {"example.com.": [f"example.com. CAA {RECORD}"], f"{NAME}.": []}
    with answering(lonely_host, zone(records, asked)) as resolv_conf:
        assert caa_records(f"nowhere.{NAME}", 5, resolv_conf) == ("example.com", [READ])
        asked.clear()
        assert caa_records("www.example.net", 5, resolv_conf) == ("", [])
    assert asked == ["www.example.net.", "example.net.", "net."]


def test_the_records_of_an_alias_are_its_targets_and_not_its_targets_parents(lonely_host: Host) -> None:
    """RFC 8659, section 3."""
    asked: list[str] = []
    records = {
        f"{NAME}.": [f"{NAME}. CNAME host.example.net.", f"host.example.net. CAA {RECORD}"],
        "other.example.com.": ["other.example.com. CNAME host.example.org."],
        "example.org.": [f"example.org. CAA {RECORD}"],
    }
    with answering(lonely_host, zone(records, asked)) as resolv_conf:
        assert caa_records(NAME, 5, resolv_conf) == (NAME, [READ])
        assert caa_records("other.example.com", 5, resolv_conf) == ("", [])
    assert "example.org." not in asked


def test_a_name_of_other_letters_is_asked_for_as_the_dns_has_it(lonely_host: Host) -> None:
    name = "xn--bcher-kva.example"
    with answering(lonely_host, zone({f"{name}.": [f"{name}. CAA {RECORD}"]})) as resolv_conf:
        assert caa_records("bücher.example", 5, resolv_conf) == (name, [READ])


def test_an_answer_that_is_too_long_for_udp_is_asked_for_by_tcp(lonely_host: Host) -> None:
    records = [f'{NAME}. CAA 0 issue "{number}.{"x" * 20}"' for number in range(1000)]
    truncated = functools.partial(answer, flags=dns.flags.TC)
    with answering(lonely_host, truncated, lambda query: answer(query, *records)) as resolv_conf:
        _, read = caa_records(NAME, 5, resolv_conf)
    assert len(read) == 1000
    assert read[999] == Caa("issue", f"999.{'x' * 20}")


def test_an_answer_that_is_too_long_for_udp_where_tcp_is_refused_is_unreadable(lonely_host: Host) -> None:
    truncated = functools.partial(answer, flags=dns.flags.TC)
    reason = r"127\.0\.0\.1 \(truncated, Connection refused\)"
    with answering(lonely_host, truncated) as resolv_conf, pytest.raises(Unreadable, match=reason):
        caa_records(NAME, 5, resolv_conf)


@pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED", "FORMERR"])
def test_an_answer_that_is_an_error_is_unreadable(lonely_host: Host, code: str) -> None:
    refuse = functools.partial(answer, code=dns.rcode.from_text(code))
    with (
        answering(lonely_host, refuse) as resolv_conf,
        pytest.raises(Unreadable, match=rf"from 127\.0\.0\.1 \({code}\)"),
    ):
        caa_records(NAME, 5, resolv_conf)


def malformed(rdata: bytes) -> Callable[[bytes], bytes]:
    """Return a nameserver with this in the CAA record."""
    return lambda query: answer(query, f"{NAME}. CAA \\# {len(rdata)} {rdata.hex()}")


@pytest.mark.parametrize(
    "nameserver",
    [
        lambda query: bytes(2) + answer(query, f"{NAME}. CAA {RECORD}")[2:],
        lambda query: answer(query.replace(b"www", b"ftp"), f"{NAME}. CAA {RECORD}"),
        lambda query: query + answer(query)[len(query) :],
        lambda query: answer(query, f"{NAME}. CAA {RECORD}")[:-20],
        lambda query: answer(query, f"{NAME}. CAA {RECORD}").replace(b"\x05ISSUE", b"\xffISSUE"),
        lambda query: answer(query, f"{NAME}. CAA {RECORD}").replace(b"\x05ISSUE", b"\x00ISSUE"),
        lambda query: answer(query, f"{NAME}. CAA {RECORD}").replace(b"\x05ISSUE", b"\x05ISS\xffE"),
        lambda query: answer(query)[:11],
        lambda _: b"",
    ],
    ids=["id", "question", "query", "cut", "tag too long", "no tag", "not ASCII", "header", "empty"],
)
def test_an_answer_that_is_not_one_to_the_question_is_unreadable(
    lonely_host: Host, nameserver: Callable[[bytes], bytes]
) -> None:
    with answering(lonely_host, nameserver) as resolv_conf, pytest.raises(Unreadable, match=r"from 127\.0\.0\.1"):
        caa_records(NAME, 0.3, resolv_conf)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.binary(max_size=100), st.integers(0, 60), st.integers(0, 60))
def test_whatever_the_bytes_are_they_are_read_or_unreadable_in_time(
    lonely_host: Host, noise: bytes, begin: int, length: int
) -> None:
    def serve(query: bytes) -> bytes:
        whole = answer(query, f"{NAME}. CAA {RECORD}")
        return whole[:begin] + noise + whole[begin + length :]

    started = time.monotonic()
    with answering(lonely_host, serve) as resolv_conf:
        try:
            _, records = caa_records(NAME, 0.05, resolv_conf)
        except Unreadable:
            records = []
    assert all(record.tag for record in records)
    assert time.monotonic() - started < 3


def test_nameservers_that_are_not_there_are_named_in_the_reason(lonely_host: Host, tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("# a comment\nsearch example.com\nnameserver ::1\nnameserver 127.0.0.9\n")
    with lonely_host.inside(), pytest.raises(Unreadable, match=r"from ::1, 127\.0\.0\.9 \(not in time\)"):
        caa_records(NAME, 0.5, str(resolv_conf))


def test_a_second_nameserver_is_asked_where_the_first_is_silent(lonely_host: Host, tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.9\nnameserver 127.0.0.1\n")
    with answering(lonely_host, zone({f"{NAME}.": [f"{NAME}. CAA {RECORD}"]})):
        assert caa_records(NAME, 1.5, str(resolv_conf)) == (NAME, [READ])


@pytest.mark.parametrize("content", ["", None])
def test_the_nameserver_here_is_asked_where_none_is_named(
    lonely_host: Host, tmp_path: Path, content: str | None
) -> None:
    """resolv.conf(5)."""
    resolv_conf = tmp_path / "resolv.conf"
    if content is not None:
        resolv_conf.write_text(content)
    with answering(lonely_host, zone({f"{NAME}.": [f"{NAME}. CAA {RECORD}"]})):
        assert caa_records(NAME, 5, str(resolv_conf)) == (NAME, [READ])


@pytest.mark.parametrize("content", [b"search two..dots\nnameserver ::1\n", b"nameserver ::1 # \xff\n"])
def test_a_resolv_conf_that_makes_no_sense_is_named_as_the_reason(tmp_path: Path, content: bytes) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_bytes(content)
    with pytest.raises(Unreadable, match=f"{resolv_conf} cannot be used"):
        caa_records(NAME, 5, str(resolv_conf))


@pytest.mark.parametrize("name", ["two..dots", "", ".", f"{'a' * 64}.example.com", ".".join(["a" * 60] * 5)])
def test_what_cannot_be_a_name_is_unreadable(name: str) -> None:
    with pytest.raises(Unreadable, match="not a domain name"):
        caa_records(name, 5)

"""What a session holds, and that it lets go of all of it: whatever is interrupted, and whatever fails."""

from __future__ import annotations

import os
import re
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.iptables import backend
from certbot_standalone_nfq.challenges.tls_alpn01.certificate import identifier
from certbot_standalone_nfq.challenges.tls_alpn01.solver import TlsAlpn01Solver
from certbot_standalone_nfq.diagnosis.problem import Problem
from certbot_standalone_nfq.diagnosis.report import Failure
from certbot_standalone_nfq.host.command import Result, run
from certbot_standalone_nfq.session.listener import FallbackListener
from certbot_standalone_nfq.session.session import Session
from certbot_standalone_nfq.session.witness import Witness
from certbot_standalone_nfq.settings import Settings
from lab.hosts import Host
from lab.http import CLOSE, ask, body, request
from lab.interceptor import CLIENTS, KEY_AUTHORIZATION, TOKEN, challenge
from lab.nginx import nginx
from lab.processes import UNMEASURED, wait_until
from lab.tls import certificate_at, proof
from tests.session.interrupted_lines import SPANS


@pytest.fixture
def host(lonely_host: Host) -> Iterator[Host]:
    with lonely_host.inside():
        yield lonely_host


def held(host: Host) -> tuple[str, str, list[str]]:
    """Return what a session holds: rules, listening sockets, threads."""
    threads = sorted(thread.name for thread in threading.enumerate())
    return host.rules(), host.run("ss", "-ltnH"), threads


def opened() -> Session:
    session = Session(Settings())
    session.open([challenge()])
    return session


def test_a_challenge_is_answered_from_add_to_remove(host: Host) -> None:
    before = held(host)
    session = opened()
    assert session.is_idle
    session.add(challenge(), "example.com", KEY_AUTHORIZATION)
    assert body(ask(host, "127.0.0.1")) == KEY_AUTHORIZATION
    session.remove(challenge(), KEY_AUTHORIZATION)
    assert session.is_idle
    assert body(ask(host, "127.0.0.1")) == "HTTP/1.1 404 Not Found"
    session.close()
    assert held(host) == before


def test_each_program_shows_its_rules_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """For conflicts with our own, and for those that redirect the port, as nothing listens here."""
    commands: list[str] = []

    def run_and_note(command: list[str], **options: Any) -> Result:
        commands.append(" ".join(command))
        return run(command, **options)

    for module in ("capture.iptables.backend", "host.firewall.reader"):
        monkeypatch.setattr(f"certbot_standalone_nfq.{module}.run", run_and_note)
    opened().close()
    listings = [command for command in commands if command.endswith(("-save", "list ruleset"))]
    assert listings
    assert len(listings) == len(set(listings))


def test_failures_can_be_explained_before_opening_while_open_and_after_closing(host: Host) -> None:
    failure = Failure("example.com", challenge(), Problem("connection", "127.0.0.1: Fetching: Timeout during connect"))
    session = Session(Settings())
    assert session.explain([failure]).startswith("example.com: no challenge request reached this plugin")
    session.open([challenge()])
    session.add(challenge(), "example.com", KEY_AUTHORIZATION)
    ask(host, "127.0.0.1")
    explained = "example.com: 1 challenge request from 127.0.0.1 arrived"
    for _ in range(2):
        wait_until(lambda: session.explain([failure]).startswith(explained), "the acknowledgment has been seen")
        session.close()


def test_a_request_with_a_query_behind_the_token_is_told_as_altered(pair: tuple[Host, Host], tmp_path: Path) -> None:
    client, server = pair
    failure = Failure("example.com", challenge(), Problem("unauthorized", f"{server.ipv4}: Invalid response: 404"))
    with server.inside(), nginx(server, tmp_path / "nginx"):
        session = Session(Settings())
        session.open([challenge()])
        session.add(challenge(), "example.com", KEY_AUTHORIZATION)
        ask(client, server.ipv4, request(f"{TOKEN}?x=1", headers=CLOSE))
        said = f"example.com: 1 challenge request arrived (from {client.ipv4}) with something added behind the token"
        wait_until(lambda: session.explain([failure]).startswith(said), "the request has been seen")
        session.close()


def test_closing_again_or_without_opening_is_no_error(host: Host) -> None:
    Session(Settings()).close()
    session = opened()
    session.close()
    session.close()
    assert not session.is_open


@pytest.mark.anywhere
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("step", [(Witness, "start"), (FallbackListener, "start"), (FallbackListener, "__init__")])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interruption_of_opening_leaves_nothing_behind(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[type[object], str],
    interruption: type[BaseException],
    when: str,
) -> None:
    before = held(host)
    original = getattr(*step)

    def interrupted(*arguments: Any, **options: Any) -> None:
        if when == "after":
            original(*arguments, **options)
        raise interruption

    monkeypatch.setattr(*step, interrupted)
    with pytest.raises(interruption):
        opened()
    assert held(host) == before


@pytest.mark.anywhere
@pytest.mark.parametrize("step", [(Witness, "stop"), (FallbackListener, "stop")])
def test_a_step_of_closing_that_fails_does_not_keep_the_others_from_being_taken(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: tuple[type[object], str]
) -> None:
    before = held(host)
    original = getattr(*step)

    def failing(*arguments: Any) -> None:
        original(*arguments)
        raise RuntimeError("no such luck")

    monkeypatch.setattr(*step, failing)
    opened().close()
    assert held(host) == before
    assert "did not end properly: no such luck" in caplog.text


@pytest.mark.anywhere
def test_an_interruption_of_closing_does_not_keep_the_other_steps_from_being_taken(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(host)
    original = FallbackListener.stop

    def interrupted(self: FallbackListener) -> None:
        original(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(FallbackListener, "stop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened().close()
    assert held(host) == before


@pytest.mark.anywhere
@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SignalExit"])
def test_at_whatever_moment_performing_is_interrupted_nothing_is_left_after_cleaning_up(
    lonely_host: Host, kind: str
) -> None:
    program = (sys.executable, "-m", "tests.session.interrupted", lonely_host.name, kind)
    assert lonely_host.run(*UNMEASURED, *program) == "done\n"


@pytest.mark.anywhere
@pytest.mark.parametrize("span", [span for span, (client, *_) in SPANS.items() if client in CLIENTS])
def test_at_whatever_line_opening_is_interrupted_nothing_is_left_after_cleaning_up(
    lonely_host: Host, span: str
) -> None:
    program = (sys.executable, "-m", "tests.session.interrupted_lines", lonely_host.name, span)
    assert lonely_host.run(*UNMEASURED, *program) == "done\n"


HANGING = """#!/bin/sh
[ -e {folder}/hang ] && exec /bin/sleep 600
exec /usr/sbin/{name} "$@"
"""


@pytest.mark.anywhere
@pytest.mark.parametrize("when", ["at the beginning", "at the end"])
def test_firewall_programs_that_hang_keep_no_queue_no_thread_and_no_listener(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    _, listening, threads = held(host)
    monkeypatch.setattr(backend, "TIMEOUT", 0.5)
    for name in ("iptables-restore", "ip6tables-restore"):
        (tmp_path / name).write_text(HANGING.format(folder=tmp_path, name=name))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for _ in range(2):
        session = Session(Settings(capture="iptables"))
        if when == "at the beginning":
            (tmp_path / "hang").touch()
            with pytest.raises(errors.Error, match="did not end within"):
                session.open([challenge()])
        else:
            session.open([challenge()])
            (tmp_path / "hang").touch()
            session.close()
            assert "did not end within" in caplog.text
        assert host.queues() == ""
        assert held(host)[1:] == (listening, threads)
        (tmp_path / "hang").unlink()


def test_challenges_of_two_types_are_answered_at_once_each_on_its_own_port(host: Host) -> None:
    before = held(host)
    by_tls = challenge("example.com", TlsAlpn01Solver.typ)
    session = Session(Settings(queue=4711, mark=0x6))
    session.open([challenge(), by_tls])
    assert sorted(re.findall(r"queue-num (\d+)", host.rules())) == ["4711"] * 6 + ["4712"] * 6
    session.add(challenge(), "example.com", KEY_AUTHORIZATION)
    session.add(by_tls, "example.com", KEY_AUTHORIZATION)
    for _ in range(2):
        assert body(ask(host, "127.0.0.1")) == KEY_AUTHORIZATION
        assert proof(certificate_at(host, "127.0.0.1", "example.com")) == identifier(KEY_AUTHORIZATION)
    session.remove(challenge(), KEY_AUTHORIZATION)
    assert not session.is_idle
    assert proof(certificate_at(host, "127.0.0.1", "example.com")) == identifier(KEY_AUTHORIZATION)
    session.remove(by_tls, KEY_AUTHORIZATION)
    assert session.is_idle
    with pytest.raises(ssl.SSLError, match="unrecognized name"):
        certificate_at(host, "127.0.0.1", "example.com")
    session.close()
    assert held(host) == before


def test_failures_of_two_types_are_explained_each_by_what_came_to_its_port(host: Host) -> None:
    by_tls = challenge("example.com", TlsAlpn01Solver.typ)
    session = Session(Settings())
    session.open([challenge(), by_tls])
    session.add(challenge(), "example.com", KEY_AUTHORIZATION)
    session.add(by_tls, "example.com", KEY_AUTHORIZATION)
    certificate_at(host, "127.0.0.1", "example.com")
    problem = Problem("connection", "127.0.0.1: Timeout during connect")
    failures = [Failure("example.com", failed, problem) for failed in (challenge(), by_tls)]
    for_http, for_tls = session.explain(failures).splitlines()
    assert for_http.startswith("example.com: no connection attempt arrived at TCP port 80")
    assert for_tls.startswith("example.com: 1 challenge request from 127.0.0.1 arrived and was answered, so port 443")
    session.close()

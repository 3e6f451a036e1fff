"""The authenticator as Certbot sees it, with Certbot's own objects."""

from __future__ import annotations

import argparse
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acme import challenges, messages
from certbot import errors as certbot_errors
from certbot import interfaces

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.authenticator import Authenticator
from certbot_standalone_nfq.capture import choice
from certbot_standalone_nfq.challenges.tls_alpn01.certificate import identifier
from lab.achalls import KEY, achall
from lab.hosts import Host, track_connections
from lab.http import ask, request
from lab.plugin import WORKS
from lab.processes import wait_until
from lab.tls import certificate_at, proof


def config(*arguments: str, **options: Any) -> argparse.Namespace:
    """Return what Certbot makes of the command line: its own options, and ours by the plugin's parser."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--http-01-port", dest="http01_port", type=int, default=80)
    parser.add_argument("--http-01-address", dest="http01_address", default="")
    Authenticator.inject_parser_options(parser, "standalone-nfq")
    return parser.parse_args([*arguments, *(f"--{name.replace('_', '-')}={value}" for name, value in options.items())])


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator(config(), "standalone-nfq")


@pytest.fixture
def host(lonely_host: Host) -> Iterator[Host]:
    """A host that tracks connections, so that there are rules."""
    track_connections(lonely_host)
    with lonely_host.inside():
        yield lonely_host


def test_it_is_what_certbot_expects(authenticator: Authenticator) -> None:
    assert isinstance(authenticator, interfaces.Authenticator)
    types = [challenges.Challenge.TYPES[typ] for typ in ("http-01", "tls-alpn-01", "dns-01")]
    assert authenticator.get_chall_pref("example.com") == types
    assert authenticator.get_chall_pref("192.0.2.1") == types
    assert "port 80" in authenticator.more_info()
    assert "port 53" in authenticator.more_info()
    assert authenticator.description


def test_preparing_changes_nothing(authenticator: Authenticator, host: Host) -> None:
    before = host.rules()
    authenticator.prepare()
    assert host.rules() == before


def test_performing_answers_all_challenges_until_the_last_is_cleaned_up(
    authenticator: Authenticator, host: Host
) -> None:
    before = host.rules()
    asked = [achall(number) for number in range(3)]
    responses = authenticator.perform(asked[:2]) + authenticator.perform(asked[2:])
    for response, each in zip(responses, asked):
        assert response == each.response(KEY)
    assert host.rules().count("-j NFQUEUE") == 6
    authenticator.cleanup(asked[:1])
    authenticator.cleanup(asked[1:2])
    assert host.rules() != before
    authenticator.cleanup(asked[2:])
    assert host.rules() == before
    authenticator.cleanup(asked)
    assert host.rules() == before


def test_it_may_perform_again_after_cleaning_up(authenticator: Authenticator, host: Host) -> None:
    before = host.rules()
    for number in range(3):
        authenticator.perform([achall(number)])
        authenticator.cleanup([achall(number)])
    assert host.rules() == before


def test_cleaning_up_after_a_failure_of_perform_is_no_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator = Authenticator(config(standalone_nfq_capture="iptables"), "standalone-nfq")
    before = host.rules()
    monkeypatch.setattr("certbot_standalone_nfq.capture.iptables.rules.install_script", lambda *_: "nonsense\n")
    with pytest.raises(certbot_errors.PluginError, match="could not add the rules"):
        authenticator.perform([achall(1)])
    authenticator.cleanup([achall(1)])
    assert host.rules() == before


def test_cleaning_up_what_was_never_performed_is_no_error(authenticator: Authenticator) -> None:
    authenticator.cleanup([achall(1)])


def test_rules_that_another_program_removed_are_no_error(authenticator: Authenticator, host: Host) -> None:
    authenticator.perform([achall(1)])
    for program in ("iptables", "ip6tables"):
        host.run(program, "-t", "mangle", "-F")
        host.run(program, "-t", "mangle", "-X")
    authenticator.cleanup([achall(1)])


UNABLE_TO_DELETE_CHAINS = """#!/bin/sh
case "$*" in *"-X "*) echo "the disk is full" >&2; exit 1;; esac
exec /usr/sbin/iptables "$@"
"""
UNABLE_TO_REMOVE = """#!/bin/sh
script=$(/bin/cat)
case "$script" in *"-X "*) echo "the disk is full" >&2; exit 1;; esac
echo "$script" | exec /usr/sbin/iptables-restore "$@"
"""


def test_rules_that_cannot_be_removed_are_told_and_removed_by_the_watchdog_when_the_process_ends(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = host.rules()
    tools = {"iptables-restore": UNABLE_TO_REMOVE, "iptables": UNABLE_TO_DELETE_CHAINS}
    for name, script in tools.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    finished = subprocess.run([sys.executable, "-m", "lab.plugin"], check=True, capture_output=True, text=True)
    assert finished.stdout == WORKS
    assert re.search(r"The firewall rules could not be removed.*iptables: the disk is full\.", finished.stderr)
    for name in tools:
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(f"/usr/sbin/{name}")
    wait_until(lambda: host.rules() == before, "the watchdog has removed the rules")


def test_the_hint_names_each_name_and_what_arrived_for_it(authenticator: Authenticator, host: Host) -> None:
    asked = [achall(1, "one.example.com"), achall(2, "two.example.com")]
    authenticator.perform(asked)
    assert ask(host, "127.0.0.1", request(asked[0].chall.encode("token")))
    one = "one.example.com: 1 challenge request from 127.0.0.1 arrived and was answered"
    wait_until(lambda: authenticator.auth_hint(asked).startswith(one), "the acknowledgment has been seen")
    _, second = authenticator.auth_hint(asked).splitlines()
    assert second.startswith("two.example.com: no connection attempt arrived at TCP port 80")
    authenticator.cleanup(asked)


def test_the_hint_uses_what_the_ca_says(authenticator: Authenticator, host: Host) -> None:
    authenticator.perform([achall(1)])
    problem = messages.Error.from_json(
        {"type": "urn:ietf:params:acme:error:caa", "detail": "CAA record prevents issuance"}
    )
    assert authenticator.auth_hint([achall(1, problem=problem)]).startswith(
        "example.com: a CAA record of the name or of a parent domain forbids"
    )
    authenticator.cleanup([achall(1)])


def test_the_hint_is_given_even_if_nothing_was_performed(authenticator: Authenticator) -> None:
    assert authenticator.auth_hint([achall(1)]).startswith("example.com: no challenge request reached this plugin")


def test_without_evidence_nothing_is_said_of_connections(host: Host) -> None:
    authenticator = Authenticator(config("--standalone-nfq-no-evidence"), "standalone-nfq")
    authenticator.perform([achall(1)])
    assert "standalone-nfq-tap" not in {thread.name for thread in threading.enumerate()}
    assert authenticator.auth_hint([achall(1)]).startswith("example.com: no challenge request reached this plugin")
    authenticator.cleanup([achall(1)])


def test_a_capture_file_that_cannot_be_written_is_done_without(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authenticator = Authenticator(config(standalone_nfq_pcap=f"{tmp_path}/no/such/folder"), "standalone-nfq")
    authenticator.perform([achall(1)])
    assert re.search(r"No packets are captured, as .*/no/such/folder cannot be written: No such file", caplog.text)
    authenticator.cleanup([achall(1)])


def test_a_hint_that_cannot_be_made_does_not_keep_certbot_from_telling_the_rest(
    authenticator: Authenticator, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator.perform([achall(1)])
    monkeypatch.setattr("certbot_standalone_nfq.diagnosis.report.diagnose", lambda _: 1 / 0)
    assert "could not be analysed" in authenticator.auth_hint([achall(1)])
    authenticator.cleanup([achall(1)])


def test_the_log_tells_each_answer_and_sums_up(
    authenticator: Authenticator, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "certbot_standalone_nfq")
    with socket.create_server(("127.0.0.1", 80)):
        authenticator.perform([achall(1)])
        for _ in range(2):
            assert ask(host, "127.0.0.1", request(achall(1).chall.encode("token")))
        authenticator.cleanup([achall(1)])
    told = [record.getMessage() for record in caplog.records if record.name.endswith(".witness")]
    assert re.fullmatch(
        r"example.com: challenge request no. 2, from 127.0.0.1 over IPv4, answered in \d+\.\d ms", told[1]
    )
    assert told[2] == "example.com: challenge requests answered: 2; sources: 1; answers acknowledged: 2"


def test_options_reach_the_rules(host: Host) -> None:
    options = {"http_01_port": 8080, "standalone_nfq_queue_num": 7, "standalone_nfq_mark": "0x3"}
    authenticator = Authenticator(config(**options, standalone_nfq_capture="iptables-legacy"), "standalone-nfq")
    authenticator.perform([achall(1)])
    rules = host.rules()
    assert "--ctorigdstport 8080" in rules
    assert "--queue-num 7" in rules
    assert "--mark 0x1/0x1" in rules
    assert host.run("iptables-legacy-save").count("NFQUEUE") == 3
    authenticator.cleanup([achall(1)])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("queue_num", 65536, "queue-num cannot be 65536. Give a number from 0 to 65535"),
        ("queue_num", -1, "queue-num cannot be -1"),
        ("mark", "0x10000000", "mark cannot be 0x10000000. Give a mask of exactly two of 32 bits"),
        ("mark", "0", "mark cannot be 0x0"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_done(option: str, value: object, message: str) -> None:
    authenticator = Authenticator(config(**{f"standalone_nfq_{option}": value}), "standalone-nfq")
    with pytest.raises(certbot_errors.MisconfigurationError, match=message):
        authenticator.prepare()


def test_an_option_that_is_no_number_is_refused_by_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        config(standalone_nfq_mark="high")
    assert "invalid number value: 'high'" in capsys.readouterr().err


def test_without_privileges_it_says_so_when_prepared(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certbot_standalone_nfq.host.privileges.missing_capabilities", lambda: ["CAP_NET_ADMIN"])
    with pytest.raises(certbot_errors.PluginError, match="without CAP_NET_ADMIN"):
        authenticator.prepare()


def test_without_iptables_and_nft_it_says_so_when_prepared_for_a_queue(empty_path: Any, host: Host) -> None:
    authenticator = Authenticator(config(standalone_nfq_selection="port"), "standalone-nfq")
    with pytest.raises(
        certbot_errors.NoInstallationError, match="Install your distribution's iptables or nftables package"
    ):
        authenticator.prepare()


@pytest.mark.root
def test_what_it_did_not_foresee_is_an_error_that_certbot_lives_with(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "require_any", lambda _: 1 / 0)
    with pytest.raises(
        certbot_errors.PluginError, match="Unexpected error while checking this machine: ZeroDivisionError"
    ):
        authenticator.prepare()


@pytest.mark.parametrize(
    ("error", "theirs"),
    [
        (errors.NotPermitted("It may not.", "Let it."), certbot_errors.PluginError),
        (errors.FirewallRefused("nft", "no"), certbot_errors.PluginError),
        (errors.BadOption("It cannot be 1.", "Give 2."), certbot_errors.MisconfigurationError),
        (errors.NotInstalled("It is not there.", "Install it."), certbot_errors.NoInstallationError),
        (errors.NoFirewallTool("nft", "nftables"), certbot_errors.NoInstallationError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
@pytest.mark.parametrize("method", ["prepare", "perform"])
def test_certbot_gets_errors_of_its_own_in_our_words(
    authenticator: Authenticator,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: errors.Error,
    theirs: type[certbot_errors.PluginError],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("certbot_standalone_nfq.settings.Settings.chosen", fail)
    with pytest.raises(certbot_errors.PluginError) as caught:
        authenticator.prepare() if method == "prepare" else authenticator.perform([])
    assert type(caught.value) is theirs
    assert str(caught.value) == f"{error.cause} {error.cure}"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("method", ["prepare", "perform", "auth_hint"])
def test_a_signal_that_is_to_end_certbot_is_no_failure(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Certbot's handler raises it wherever the main thread is, as here in the loading of a module or in a look-up."""

    def interrupted(*_: object, **__: object) -> None:
        raise certbot_errors.SignalExit

    monkeypatch.setattr("certbot_standalone_nfq.settings.Settings.chosen", interrupted)
    monkeypatch.setattr("certbot_standalone_nfq.session.witness.Witness.explain", interrupted)
    monkeypatch.setattr("importlib.import_module", interrupted)
    with pytest.raises(certbot_errors.SignalExit):
        authenticator.prepare() if method == "prepare" else getattr(authenticator, method)([])


REGISTERED = """
import sys
from acme import challenges
challenges.Challenge.TYPES.pop("tls-alpn-01", None)
class Other(challenges.KeyAuthorizationChallenge):
    typ = "tls-alpn-01"
    response_cls = challenges.HTTP01Response
    validation = None
if sys.argv[1] == "registered":
    challenges.Challenge.register(Other)
from certbot_standalone_nfq.authenticator import Authenticator
(found,) = (each for each in Authenticator(None, "x").get_chall_pref("example.com") if each.typ == "tls-alpn-01")
print(found is Other, found.from_json({"type": "tls-alpn-01", "token": "A" * 43}).typ)
"""


@pytest.mark.parametrize("state", ["registered", "missing"])
def test_tls_alpn_01_is_registered_unless_acme_or_another_plugin_has_done_so(state: str) -> None:
    printed = subprocess.run([sys.executable, "-c", REGISTERED, state], check=True, capture_output=True, text=True)
    assert printed.stdout == f"{state == 'registered'} tls-alpn-01\n"


def test_handshakes_are_answered_until_the_last_challenge_is_cleaned_up(
    authenticator: Authenticator, host: Host
) -> None:
    before = host.rules()
    asked = [achall(1), achall(2, "two.example.com", typ="tls-alpn-01")]
    (_, response) = authenticator.perform(asked)
    assert response == asked[1].response(KEY)
    shown = certificate_at(host, "127.0.0.1", "two.example.com")
    assert proof(shown) == identifier(response.key_authorization)
    authenticator.cleanup(asked[:1])
    assert proof(certificate_at(host, "127.0.0.1", "two.example.com"))
    authenticator.cleanup(asked[1:])
    assert host.rules() == before

from __future__ import annotations

from pathlib import Path

import pytest

from lab import doctor
from lab.answerer import OTHER_THUMBPRINT, THUMBPRINT, answerer
from lab.dns import Dns
from lab.doctor import NAME
from lab.hosts import Host
from tests.cli.answer.test_accounts import KEYS, PRODUCTION, STAGING, expected, put


def test_an_account_of_another_machine_and_a_name_of_several_machines(server: Host, named: Dns, tmp_path: Path) -> None:
    named.address(NAME, server.ipv4, server.ipv6, "203.0.113.7", "2001:db8:7::7")
    put(tmp_path, PRODUCTION, KEYS["RSA"])
    arguments = ("--thumbprint", THUMBPRINT, "--config-dir", str(tmp_path), NAME)
    report = doctor.examine(server, *arguments)
    assert f"{THUMBPRINT} is not the thumbprint of an account that Certbot has here" in report.seen("account", "warn")
    assert expected(KEYS["RSA"]) in report.seen("account", "warn")
    seen = report.seen("fleet", "pass")
    assert seen.startswith(f"{NAME} leads to this machine and to ")
    assert "203.0.113.7" in seen
    assert server.ipv4 not in seen
    assert f"No process on this machine answers for {NAME} on port 80." in report.seen("answer", "warn")


def test_the_account_of_this_machine_a_balancer_and_a_process_that_answers(
    server: Host, named: Dns, tmp_path: Path
) -> None:
    named.address(NAME, "203.0.113.7", "2001:db8:7::7")
    put(tmp_path, PRODUCTION, KEYS["RSA"])
    with answerer(server, NAME) as running:
        report = doctor.examine(server, "--account", "--config-dir", str(tmp_path), NAME)
        assert f"(process {running.process.pid}) answers for {NAME} on port 80." in report.seen("answer", "pass")
        assert "A service of this plugin answers any token (queue 2808" in report.seen("queues", "pass")
    ours = f"{expected(KEYS['RSA'])} is the thumbprint of Certbot's account at acme-v02.api.letsencrypt.org/directory."
    assert report.seen("account", "pass") == ours
    assert "a balancer there has to pass requests on to this machine." in report.seen("fleet", "pass")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--thumbprint", OTHER_THUMBPRINT[:-1]), "is no account's thumbprint."),
        (("--account",), "Certbot has 2 accounts below"),
        (("--account", "--server", "https://ca.example/directory"), "Certbot has no account below"),
    ],
)
def test_no_account_is_a_failure(lonely_host: Host, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    put(tmp_path, PRODUCTION, KEYS["RSA"])
    put(tmp_path, STAGING, KEYS["EC"])
    report = doctor.examine(lonely_host, *arguments, "--config-dir", str(tmp_path))
    assert said in report.seen("account", "fail")

"""The recipes of docs/fleets.md, on servers that share names behind balancers."""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq.cli.answer import accounts
from lab import fleet, handout
from lab.answerer import answerer
from lab.certbot import RENEW, Certbot
from lab.fleet import BALANCERS, NAMES, Fleet, name
from lab.handout import Machine
from lab.processes import wait_until
from tests.e2e.test_certbot import serial_number

DOCUMENT = (Path(__file__).parents[2] / "docs/fleets.md").read_text()
OTHERS = ("web2.example.com", "web3.example.com")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet.fleet(tmp_path_factory.mktemp("fleet")) as made:
        yield made


def registered(servers: Fleet, folder: Path, number: int = 0) -> Certbot:
    """Certbot on one of the servers, with an account and nothing else."""
    certbot = Certbot(servers.members[number].host, servers.authority, folder / f"certbot{number}")
    result = certbot.run("register", *certbot.account())
    assert result.returncode == 0, result.stdout
    return certbot


def asking(certbot: Certbot, *names: str, authenticator: str = "standalone-nfq") -> list[str]:
    """Return the arguments that have a certificate issued, by the account that there is."""
    domains = [word for each in names for word in ("-d", each)]
    return ["certonly", "-a", authenticator, *domains, "--server", certbot.authority.directory]


def certonly(certbot: Certbot, *names: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return certbot.run(*asking(certbot, *names), *options)


def serve_the_newest(machines: list[Machine], certbot: Certbot, result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stdout
    serial = serial_number(certbot.certificate(NAMES[0]))
    for machine in machines:
        wait_until(functools.partial(machine.serves, serial), "the new certificate is loaded")


@contextlib.contextmanager
def answered(servers: Fleet, *arguments: str) -> Iterator[None]:
    """Answer on all servers; nothing is changed and nobody has noticed afterwards."""
    before = servers.state()
    with contextlib.ExitStack() as stack:
        for member in servers.members:
            stack.enter_context(answerer(member.host, *NAMES, arguments=arguments))
        yield
    assert servers.state() == before


def test_without_it_validations_that_land_elsewhere_fail(servers: Fleet, tmp_path: Path) -> None:
    names = [name(each, "ipv4") for each in BALANCERS]
    result = certonly(registered(servers, tmp_path), *names)
    assert result.returncode == 1
    assert set(re.findall(r"(?:Domain|Identifier): +(\S+)", result.stdout)) == set(names), result.stdout


def test_one_certbot_hands_its_certificate_out_by_the_hook_of_the_documents(servers: Fleet, tmp_path: Path) -> None:
    certbot = registered(servers, tmp_path)
    hook = tmp_path / "hand-out"
    found = re.search(r"```sh\n(#!/bin/sh\n.*?)```", DOCUMENT, re.DOTALL)
    assert found
    hook.write_text(found.group(1))
    hook.chmod(0o755)
    thumbprint = accounts.only(certbot.configuration).thumbprint
    with (
        answered(servers, "--thumbprint", thumbprint),
        handout.machines(servers.members, tmp_path / "machines") as (first, *others),
    ):
        handout.install_ssh(first, dict(zip(OTHERS, others)))
        certbot = certbot.by(*handout.path(first))
        issued = certonly(certbot, *NAMES, options=("--deploy-hook", str(hook)))
        serve_the_newest(others, certbot, issued)
        serve_the_newest(others, certbot, certbot.run(*RENEW))


def test_each_machine_has_its_own_certbot_and_certificate_by_the_same_account(servers: Fleet, tmp_path: Path) -> None:
    """All at once."""
    first = registered(servers, tmp_path)
    certbots = [first]
    for number, member in enumerate(servers.members[1:], 1):
        certbots.append(Certbot(member.host, servers.authority, tmp_path / f"certbot{number}"))
        shutil.copytree(first.configuration / "accounts", certbots[-1].configuration / "accounts")
    with answered(servers, "--account", "--config-dir", str(first.configuration)), contextlib.ExitStack() as stack:
        commands = [each.command(*asking(each, *NAMES)) for each in certbots]
        running = [stack.enter_context(subprocess.Popen(each, stdout=subprocess.PIPE, text=True)) for each in commands]
        outputs = [each.communicate(timeout=180)[0] for each in running]
    assert [each.returncode for each in running] == [0, 0, 0], outputs
    assert len({serial_number(each.certificate(NAMES[0])) for each in certbots}) == len(certbots)


def test_only_the_holder_of_the_accounts_key_gains_by_it(servers: Fleet, tmp_path: Path) -> None:
    """From a machine that no name leads to, with an authenticator that does nothing."""
    own, foreign = (tmp_path / each for each in ("own", "foreign"))
    holder, stranger = (Certbot(servers.internet, servers.authority, folder) for folder in (own, foreign))
    for each in (holder, stranger):
        result = each.run("register", *each.account())
        assert result.returncode == 0, result.stdout
    idle = ("--preferred-challenges", "http", "--manual-auth-hook", "true")
    with answered(servers, "--account", "--config-dir", str(holder.configuration)):
        results = [each.run(*asking(each, *NAMES, authenticator="manual"), *idle) for each in (holder, stranger)]
    assert [result.returncode for result in results] == [0, 1], results
    assert "unauthorized" in results[1].stdout

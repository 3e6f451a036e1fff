"""The real Certbot and a real CA, where no web server has the port, or has it on some addresses only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import hosts
from lab.certbot import Certbot
from lab.hosts import Host
from lab.interceptor import EBPF, VARIANTS
from lab.nginx import nginx
from lab.pebble import pebble

NAMES = ("four.example.com", "six.example.com")


@pytest.fixture(scope="module")
def certbot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certbot]:
    folder = tmp_path_factory.mktemp("empty")
    with hosts.pair() as (client, server), pebble(client, folder / "pebble") as authority:
        authority.resolve(NAMES[0], ipv4=server.ipv4)
        authority.resolve(NAMES[1], ipv6=server.ipv6)
        yield Certbot(server, authority, folder / "certbot")


def is_clean(server: Host) -> bool:
    return not server.listens(80) and not server.queues()


@pytest.mark.parametrize("variant", [*VARIANTS, *EBPF])
def test_a_certificate_is_issued_and_renewed_where_no_web_server_runs(certbot: Certbot, variant: str) -> None:
    before = certbot.host.rules()
    result = certbot.certonly(*NAMES, options=(f"--standalone-nfq-capture={variant}", "--force-renewal"))
    assert result.returncode == 0, result.stdout
    assert "Nothing else listens at 0.0.0.0:80, [::]:80, so Certbot" in certbot.log
    result = certbot.renew()
    assert result.returncode == 0, result.stdout
    assert certbot.host.rules() == before
    assert is_clean(certbot.host)


def test_a_web_server_that_has_one_family_keeps_it_and_the_other_is_answered_too(certbot: Certbot) -> None:
    folder = certbot.folder.parent / "one-family"
    with nginx(certbot.host, folder, listen="listen 80;") as web_server:
        before = web_server.identity(), web_server.error_log
        result = certbot.certonly(*NAMES, options=("--force-renewal",))
        assert result.returncode == 0, result.stdout
        assert (web_server.identity(), web_server.error_log) == before
    assert "Nothing else listens at [::]:80, so Certbot" in certbot.log


def test_the_address_that_certbots_option_names_is_the_only_one(certbot: Certbot) -> None:
    result = certbot.certonly(NAMES[0], options=("--force-renewal", "--http-01-address", certbot.host.ipv4))
    assert result.returncode == 0, result.stdout
    assert f"Nothing else listens at {certbot.host.ipv4}:80, so Certbot" in certbot.log
    result = certbot.certonly(NAMES[1], options=("--force-renewal", "--http-01-address", certbot.host.ipv4))
    assert result.returncode != 0

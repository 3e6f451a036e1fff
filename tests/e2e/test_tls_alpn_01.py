"""The real certbot and a real authority that validates by a TLS handshake, past a busy server on port 443."""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab import hosts
from lab.caddy_authority import caddy_authority
from lab.capture import capture
from lab.certbot import RENEW, Certbot
from lab.interceptor import VARIANTS
from lab.load import load
from lab.nginx import nginx
from lab.pebble import Pebble, pebble
from lab.tls import listen
from tests.e2e.conftest import Internet
from tests.e2e.test_certbot import NAMES, alternative_names, serial_number

SEGMENT = 1448
BY_TLS = ("--preferred-challenges", "tls-alpn-01")


@contextlib.contextmanager
def internet(folder: Path) -> Iterator[tuple[hosts.Host, hosts.Host, Pebble, Certbot]]:
    with hosts.pair() as (client, server), pebble(client, folder / "pebble") as authority:
        authority.resolve(NAMES[0], ipv4=server.ipv4)
        authority.resolve(NAMES[1], ipv6=server.ipv6)
        authority.resolve(NAMES[2], ipv4=server.ipv4, ipv6=server.ipv6)
        yield client, server, authority, Certbot(server, authority, folder / "certbot")


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    """As elsewhere, but that nginx has port 443, and port 80 is closed."""
    folder = tmp_path_factory.mktemp("tls")
    with (
        internet(folder) as (client, server, authority, certbot),
        nginx(server, folder / "nginx", 443, listen(folder / "tls")) as web_server,
    ):
        yield Internet(client, server, web_server, authority, certbot)


@pytest.fixture
def undisturbed(everybody: Internet) -> Iterator[Internet]:
    """The same, with a load of handshakes; at the end it is checked that nothing has changed and nobody has noticed."""
    server, web_server = everybody.server, everybody.nginx
    server.run("conntrack", "-F")  # as elsewhere: Pebble may get a port that the load before had
    before = server.rules(), web_server.identity(), web_server.error_log
    urls = [f"https://{server.ipv4}/", f"https://[{server.ipv6}]/"]
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(load(everybody.client, url, handshakes=True)) for url in urls]
        yield everybody
    for each in loads:
        assert each.requests > 100
        assert each.failures == 0
    assert (server.rules(), web_server.identity(), web_server.error_log) == before
    assert not server.queues()


@pytest.fixture
def certbot(everybody: Internet) -> Iterator[Certbot]:
    yield everybody.certbot
    shutil.rmtree(everybody.certbot.folder, ignore_errors=True)


def test_a_certificate_for_three_names_is_issued_and_renewed(undisturbed: Internet, certbot: Certbot) -> None:
    """Renewal knows the type of challenge by what Certbot has stored."""
    result = certbot.certonly(*NAMES, options=BY_TLS)
    assert result.returncode == 0, result.stdout
    certificate = certbot.certificate(NAMES[0])
    assert set(alternative_names(certificate).get_values_for_type(x509.DNSName)) == set(NAMES)
    first = serial_number(certificate)
    result = certbot.renew()
    assert result.returncode == 0, result.stdout
    assert serial_number(certificate) != first
    assert certbot.log.count("Packets to port 443 are captured") == 2
    assert "Packets to port 80 " not in certbot.log


def test_a_dry_run_succeeds(undisturbed: Internet, certbot: Certbot) -> None:
    result = certbot.certonly(NAMES[2], options=(*BY_TLS, "--dry-run"))
    assert result.returncode == 0, result.stdout
    assert "The dry run was successful" in result.stdout


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("selection", ["prefilter", "port"])
def test_every_way_to_select_packets_works(everybody: Internet, certbot: Certbot, variant: str, selection: str) -> None:
    options = (f"--standalone-nfq-capture={variant}", f"--standalone-nfq-selection={selection}")
    result = certbot.certonly(*NAMES, options=(*BY_TLS, *options))
    assert result.returncode == 0, result.stdout
    assert f"by {variant}, queue" in certbot.log


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_an_address_is_certified(undisturbed: Internet, certbot: Certbot, family: str) -> None:
    """By a request of ours: see the same of http-01."""
    address = ipaddress.ip_address(getattr(undisturbed.server, family))
    certbot.folder.mkdir()
    signing_request = certbot.folder / "request.pem"
    signing_request.write_bytes(
        x509.CertificateSigningRequestBuilder(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=True)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    paths = [f"--{name}-path={certbot.folder / name}.pem" for name in ("cert", "chain", "fullchain")]
    arguments = ("certonly", "-a", "standalone-nfq", *BY_TLS, "--csr", str(signing_request))
    result = certbot.run(*arguments, *paths, *certbot.account())
    assert result.returncode == 0, result.stdout
    assert alternative_names(certbot.folder / "cert.pem").get_values_for_type(x509.IPAddress) == [address]


def test_a_certificate_is_issued_and_renewed_where_no_server_has_the_port(tmp_path: Path) -> None:
    with internet(tmp_path) as (_, server, _, certbot):
        before = server.rules()
        result = certbot.certonly(*NAMES, options=BY_TLS)
        assert result.returncode == 0, result.stdout
        assert "Nothing else listens at 0.0.0.0:443, [::]:443, so Certbot" in certbot.log
        result = certbot.renew()
        assert result.returncode == 0, result.stdout
        assert server.rules() == before
        assert not server.listens(443)


def test_a_current_go_validates_too(tmp_path: Path) -> None:
    """Whose ClientHello takes two segments; on this cable they are not sent as one."""
    with (
        hosts.pair() as (client, server),
        nginx(server, tmp_path / "nginx", 443, listen(tmp_path / "tls")) as web_server,
        caddy_authority(client, tmp_path / "caddy") as authority,
    ):
        certbot = Certbot(server, authority, tmp_path / "certbot")
        client.run("ip", "link", "set", "eth0", "gso_max_segs", "1")
        authority.resolve(NAMES[0], server.ipv4)
        before = server.rules(), web_server.identity(), web_server.error_log
        with capture(server, tmp_path / "validation.pcap", f"tcp dst port 443 and dst {server.ipv4}") as captured:
            result = certbot.certonly(NAMES[0], options=BY_TLS)
            assert result.returncode == 0, result.stdout
            result = certbot.run(*RENEW)
            assert result.returncode == 0, result.stdout
            result = certbot.certonly(NAMES[0], options=(*BY_TLS, "--dry-run"))
            assert result.returncode == 0, result.stdout
            assert "dry run was successful" in result.stdout
        assert (server.rules(), web_server.identity(), web_server.error_log) == before
    longest = max(len(segment["TCP"].payload) for segment in captured.segments())
    assert longest == SEGMENT

"""The real certbot, a real authority behind a validating resolver, and real name servers, none of which may notice."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import hosts, queries
from lab.certbot import Certbot
from lab.hosts import Host
from lab.internet import internet
from lab.nameservers import KINDS, ZONE, NameServer, name_server
from lab.processes import has_ended
from lab.zones import signed, zone
from tests.e2e.matrix import NameServerRow, recorded
from tests.e2e.test_certbot import serial_number
from tests.e2e.test_servers import names

WILDCARD = f"*.{ZONE}"
NAMES = (ZONE, WILDCARD, f"one.{ZONE}", f"two.{ZONE}")
BY_DNS = ("--preferred-challenges", "dns")
DELEGATED = "example.org"
DELEGATED_NAMES = (DELEGATED, f"*.{DELEGATED}", f"one.{DELEGATED}", f"two.{DELEGATED}")
_QUERIES_PER_SECOND = 1500


@dataclass
class Town:
    """A host that is a zone's name server, and who else is there."""

    client: Host
    server: Host
    certbot: Certbot


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The root, and a further zone, are signed; the zone of the server is not, nor what is delegated to it."""
    folder = tmp_path_factory.mktemp("town")
    with hosts.pair() as (client, server):
        labels = ("_acme-challenge", "_acme-challenge.one", "_acme-challenge.two")
        records = "".join(f"{label} 60 IN NS ns.{ZONE}.\n" for label in labels)
        records += f"@ 60 IN NS ns.root.\n@ 60 IN A {server.ipv4}\n"
        further = signed(zone(DELEGATED, records, "ns.root."), folder / "org-keys")
        delegation = f"{DELEGATED}. 60 IN NS ns.root.\n{further.ds}\n"
        with internet(client, server, folder, delegation, further) as authority:
            yield Town(client, server, Certbot(server, authority, folder / "certbot"))


@pytest.fixture
def certbot(town: Town) -> Iterator[Certbot]:
    yield town.certbot
    shutil.rmtree(town.certbot.folder, ignore_errors=True)


@pytest.fixture
def row(request: pytest.FixtureRequest, kind: str) -> Iterator[NameServerRow]:
    """A row of the table that is printed at the end, for each kind of server."""
    with recorded(NameServerRow(kind), "name servers", request.node) as made:
        yield made


@contextlib.contextmanager
def undisturbed(town: Town, serving: NameServer, folder: Path, row: NameServerRow) -> Iterator[None]:
    """Put a load on a name server; at the end it is checked that nothing has changed, and no query was lost."""
    row.version = serving.kind.version
    before, log = (town.server.rules(), serving.files()), serving.log.read_text()
    loaded = [(town.server.ipv4, "udp"), (town.server.ipv6, "udp")]
    if serving.kind.name != "dnsmasq":  # which ends connections with queries under way, with or without us
        loaded.append((town.server.ipv4, "tcp"))
    with contextlib.ExitStack() as stack:
        loads = [
            stack.enter_context(queries.load(town.client, address, folder, mode, _QUERIES_PER_SECOND))
            for address, mode in loaded
        ]
        yield
    row.over_udp, row.over_tcp = (sum(each.completed for each in some) for some in (loads[:2], loads[2:]))
    row.lost = sum(each.lost + each.wrong for each in loads)
    row.unchanged = not has_ended(serving.process) and (town.server.rules(), serving.files()) == before
    row.log_unchanged = serving.log.read_text() == log
    assert all(each.completed > 300 for each in loads)
    assert row.lost == 0
    assert row.unchanged
    assert row.log_unchanged
    assert not town.server.queues()


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_with_a_wildcard_is_issued_and_renewed_past_a_busy_name_server(
    town: Town, certbot: Certbot, row: NameServerRow, kind: str, tmp_path: Path
) -> None:
    with name_server(town.server, tmp_path / kind, kind) as serving, undisturbed(town, serving, tmp_path, row):
        result = certbot.certonly(*NAMES, options=BY_DNS)
        assert result.returncode == 0, result.stdout
        certificate = certbot.certificate(ZONE)
        row.issued = names(certificate) == set(NAMES)
        assert row.issued
        row.renewed = is_renewed(certbot, ZONE)
        assert row.renewed


def is_renewed(certbot: Certbot, name: str) -> bool:
    """Renew all certificates; return whether that of a name is another one now."""
    first = serial_number(certbot.certificate(name))
    result = certbot.renew()
    assert result.returncode == 0, result.stdout
    return serial_number(certbot.certificate(name)) != first


def test_where_nothing_has_the_port_the_same_is_issued_and_renewed(
    town: Town, certbot: Certbot, request: pytest.FixtureRequest
) -> None:
    before = town.server.rules()
    with recorded(NameServerRow("nothing"), "name servers", request.node) as row:
        result = certbot.certonly(*NAMES, options=BY_DNS)
        assert result.returncode == 0, result.stdout
        row.issued = names(certbot.certificate(ZONE)) == set(NAMES)
        row.renewed = is_renewed(certbot, ZONE)
        row.unchanged = row.log_unchanged = town.server.rules() == before and not town.server.queues()
    assert row.issued
    assert row.renewed
    assert row.unchanged


def test_http_01_for_a_name_and_dns_01_for_its_wildcard_are_pending_at_once(
    town: Town, certbot: Certbot, tmp_path: Path
) -> None:
    """Certbot chooses so by itself."""
    row = NameServerRow("nsd")
    with name_server(town.server, tmp_path / "nsd") as serving, undisturbed(town, serving, tmp_path, row):
        result = certbot.certonly(ZONE, WILDCARD)
    assert result.returncode == 0, result.stdout
    assert names(certbot.certificate(ZONE)) == {ZONE, WILDCARD}
    log = certbot.log
    assert "http-01 challenge for" in log
    assert "dns-01 challenge for" in log


@pytest.mark.parametrize("kind", ["nsd", "dnsmasq"])
def test_certificates_for_a_signed_zone_that_delegates_without_ds_are_issued_and_renewed(
    town: Town, certbot: Certbot, kind: str, tmp_path: Path
) -> None:
    """The zone is another name server's; this one has nothing of it, as a resolver for a home network has not."""
    row = NameServerRow(kind)
    with name_server(town.server, tmp_path / kind, kind) as serving, undisturbed(town, serving, tmp_path, row):
        result = certbot.certonly(*DELEGATED_NAMES, options=BY_DNS)
        assert result.returncode == 0, result.stdout
        assert names(certbot.certificate(DELEGATED)) == set(DELEGATED_NAMES)
        assert is_renewed(certbot, DELEGATED)

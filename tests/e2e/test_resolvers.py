"""Resolvers that CAs may ask, and the ways by which they get to this machine: issued by each, for all ways at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import hosts
from lab.certbot import Certbot
from lab.pebble import pebble
from lab.resolvers import RESOLVERS, Resolver
from lab.zones import zone
from tests.e2e.matrix import ResolverRow, recorded
from tests.e2e.test_servers import names
from tests.host.dns.world import AT_MACHINE, AT_PROVIDER, REGISTRY, World

RESOLVER = "198.51.100.12"
SERVED, DELEGATED, ALIAS = "served.com", "delegated.com", "alias.com"
"""An unsigned zone on this machine; a signed one elsewhere, that delegates the challenge; one with an alias."""
WITHOUT_RECORD = f"www.{SERVED}"
STRICT = next(each for each in RESOLVERS if "strict" in each.name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with hosts.pair() as pair:
        world = World(*pair, tmp_path_factory.mktemp("world"))
        world.delegate(SERVED, f"ns.{SERVED}.", "198.51.100.2")
        world.own.append(zone(SERVED, AT_MACHINE))
        world.delegate(DELEGATED)
        delegating = f"{AT_PROVIDER}_acme-challenge 60 IN NS {DELEGATED}.\n"
        world.provider.append(world.sign(zone(DELEGATED, delegating)))
        world.delegate(ALIAS)
        leading = f"_acme-challenge 60 IN CNAME challenge\nchallenge 60 IN NS {ALIAS}.\n"
        deeper = f"_acme-challenge.deep 60 IN CNAME a.b.challenges\nchallenges 60 IN NS {ALIAS}.\n"
        world.provider.append(zone(ALIAS, AT_PROVIDER + leading + deeper))
        world.internet.run("ip", "address", "add", f"{RESOLVER}/24", "dev", "eth0")
        yield world


@contextlib.contextmanager
def certbot_by(world: World, resolver: Resolver, folder: Path, *, serve_own: bool = True) -> Iterator[Certbot]:
    """Run everything; the CA asks this resolver."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(world.running(serve_own))
        stack.enter_context(resolver.running(world.internet, folder / "resolver", RESOLVER, REGISTRY, world.anchor))
        authority = stack.enter_context(pebble(world.internet, folder / "pebble", resolver=f"{RESOLVER}:53"))
        yield Certbot(world.machine, authority, folder / "certbot")


@pytest.mark.parametrize("resolver", RESOLVERS, ids=lambda each: each.name)
def test_a_challenge_is_found_by_each_way_through_each_resolver(
    world: World, resolver: Resolver, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One that is strict stops where a name above has no record, see docs/dns-01.md."""
    row, strict = ResolverRow(resolver.name, resolver.version), resolver is STRICT
    wanted = [f"*.{name}" for name in (SERVED, DELEGATED, ALIAS, *(() if strict else (WITHOUT_RECORD,)))]
    with certbot_by(world, resolver, tmp_path) as certbot, recorded(row, "resolvers", request.node):
        result = certbot.certonly(*wanted)
        assert result.returncode == 0, result.stdout
        issued = names(certbot.certificate(SERVED))
        row.served, row.delegated, row.alias, row.without_record = (
            f"*.{name}" in issued for name in (SERVED, DELEGATED, ALIAS, WITHOUT_RECORD)
        )
        assert issued == set(wanted)
        assert not strict or certbot.certonly(f"*.{WITHOUT_RECORD}").returncode == 1


def test_where_nothing_has_the_port_names_above_are_answered_for_resolvers_that_ask_for_them(
    world: World, tmp_path: Path
) -> None:
    wanted = [f"*.{name}" for name in (DELEGATED, ALIAS, f"deep.{ALIAS}")]
    with certbot_by(world, STRICT, tmp_path, serve_own=False) as certbot:
        result = certbot.certonly(*wanted)
        assert result.returncode == 0, result.stdout
        assert names(certbot.certificate(DELEGATED)) == set(wanted)

"""Real name servers and a real resolver: what the user is told, word for word."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from certbot_standalone_nfq.host.dns.lead import leads
from lab.dns import answering
from lab.hosts import Host
from lab.zones import zone
from tests.host.dns.world import AT_MACHINE, AT_PROVIDER, CHALLENGE, MACHINE, NAME, PROVIDER, World

pytestmark = pytest.mark.anywhere

ALIASES = "challenges.example.com"
TARGET = f"abc.{ALIASES}"
DELEGATED = f"{CHALLENGE}. 60 IN NS {NAME}.\n"


@pytest.fixture
def world(pair: tuple[Host, Host], tmp_path: Path) -> World:
    return World(*pair, tmp_path)


def serve_here(world: World, *, sign: bool = False, more: str = "") -> None:
    """Let the machine be the zone's only name server."""
    world.delegate(server=f"ns.{NAME}.", glue=MACHINE)
    made = zone(NAME, AT_MACHINE + more)
    world.own.append(world.sign(made) if sign else made)


def serve_elsewhere(world: World, more: str = "", *, records: str = AT_PROVIDER, sign: bool = False) -> None:
    """Let a provider be the zone's only name server."""
    world.delegate()
    made = zone(NAME, records + more)
    world.provider.append(world.sign(made) if sign else made)


def told(world: World) -> str:
    """Return the error."""
    error = world.lead().error
    assert error
    return str(error)


def warned(world: World) -> str:
    """Return the warning."""
    lead = world.lead()
    assert lead.error is None
    assert len(lead.warnings) == 1
    return lead.warnings[0]


def test_a_zone_that_this_machine_serves_is_answered_at_the_challenge(world: World) -> None:
    serve_here(world)
    found = world.leads(NAME, f"*.{NAME}", f"www.{NAME}")
    assert list(found) == [NAME, f"www.{NAME}"]
    assert found[NAME].owner == CHALLENGE
    assert found[NAME].seen == f"{CHALLENGE} is looked up at this machine: ns.{NAME} ({MACHINE})."
    assert found[f"www.{NAME}"].owner == f"_acme-challenge.www.{NAME}"
    assert not any(lead.error or lead.warnings or lead.remarks for lead in found.values())


def test_its_server_need_not_run(world: World) -> None:
    serve_here(world)
    assert world.lead(serve_own=False).seen == f"{CHALLENGE} is looked up at this machine: ns.{NAME} ({MACHINE})."


def test_a_signed_zone_here_is_an_error_with_the_delegation_that_helps(world: World) -> None:
    serve_here(world, sign=True)
    assert told(world) == (
        f"{CHALLENGE} is in the signed zone {NAME} (DNSSEC), so that the unsigned answer of this machine would be "
        f"refused. Add to the zone {NAME}, once, and without a DS record: '{CHALLENGE}. 3600 IN NS {NAME}.'"
    )


def test_that_delegation_helps(world: World) -> None:
    serve_here(world, sign=True, more=DELEGATED)
    lead = world.lead()
    assert lead.error is None
    assert lead.seen == f"{CHALLENGE} is looked up at this machine: {NAME} ({MACHINE})."


def test_name_servers_elsewhere_are_an_error_with_the_record_to_add(world: World) -> None:
    serve_elsewhere(world)
    assert told(world) == (
        f"{CHALLENGE} is looked up at ns.provider.com ({PROVIDER}), not at this machine, so that its answer would not "
        f"be found. Add to the zone {NAME}, once: '{CHALLENGE}. 3600 IN NS {NAME}.'"
    )


def test_a_machine_without_a_name_gets_one_in_the_record_to_add(world: World) -> None:
    serve_elsewhere(world, records="@ 60 IN NS ns.provider.com.\n@ 60 IN A 203.0.113.7\n")
    assert told(world).endswith(
        f"Add to the zone {NAME}, once: '{CHALLENGE}. 3600 IN NS acme-dns.{NAME}.' and "
        f"'acme-dns.{NAME}. 3600 IN A {MACHINE}' and 'acme-dns.{NAME}. 3600 IN AAAA 2001:db8:100::2'"
    )


@pytest.mark.parametrize("sign", [False, True], ids=["unsigned", "signed"])
def test_a_delegation_to_this_machine_is_followed(world: World, sign: bool) -> None:
    serve_elsewhere(world, DELEGATED, sign=sign)
    lead = world.lead()
    assert lead.error is None
    assert lead.owner == CHALLENGE
    assert lead.seen == f"{CHALLENGE} is looked up at this machine: {NAME} ({MACHINE})."


def test_a_delegation_to_this_machine_with_a_ds_record_is_an_error(world: World) -> None:
    serve_elsewhere(world, f"{DELEGATED}{CHALLENGE}. 60 IN DS 1 13 2 {'ab' * 32}\n", sign=True)
    assert told(world) == (
        f"{CHALLENGE} is delegated with a DS record (DNSSEC), so that the unsigned answer of this machine would be "
        f"refused. Remove the DS record of {CHALLENGE} from the zone above it; keep the NS record."
    )


def test_a_delegation_to_another_machine_is_an_error(world: World) -> None:
    serve_elsewhere(world, f"{CHALLENGE}. 60 IN NS ns.provider.com.\n")
    world.provider.append(zone(CHALLENGE, "@ 60 IN NS ns.provider.com.\n"))
    assert told(world) == (
        f"{CHALLENGE} is looked up at ns.provider.com ({PROVIDER}), not at this machine, so that its answer would not "
        f"be found. Let only this remain of the NS records of {CHALLENGE}: '{CHALLENGE}. 3600 IN NS {NAME}.'"
    )


def test_an_alias_is_followed_and_answered_at_its_target(world: World) -> None:
    serve_elsewhere(world, f"{CHALLENGE}. 60 IN CNAME one\none 60 IN CNAME {TARGET}.\n{ALIASES}. 60 IN NS {NAME}.\n")
    lead = world.lead()
    assert lead.owner == TARGET
    assert lead.seen == f"{TARGET}, which {CHALLENGE} is an alias of, is looked up at this machine: {NAME} ({MACHINE})."
    assert not lead.error


def test_an_alias_out_of_a_signed_zone_is_followed(world: World) -> None:
    serve_elsewhere(world, f"{CHALLENGE}. 60 IN CNAME {TARGET}.\n{ALIASES}. 60 IN NS {NAME}.\n", sign=True)
    assert world.lead().owner == TARGET


def test_an_alias_of_a_name_elsewhere_is_an_error_with_the_record_to_add(world: World) -> None:
    serve_elsewhere(world, f"{CHALLENGE}. 60 IN CNAME abc.provider.com.\n")
    assert told(world) == (
        f"abc.provider.com, which {CHALLENGE} is an alias of, is looked up at ns.provider.com ({PROVIDER}), not at "
        "this machine, so that its answer would not be found. Add to the zone provider.com, once: 'abc.provider.com. "
        f"3600 IN NS {NAME}.'"
    )


def test_an_alias_of_a_name_in_no_zone_is_an_error(world: World) -> None:
    serve_elsewhere(world, f"{CHALLENGE}. 60 IN CNAME abc.nowhere.com.\n")
    assert told(world) == (
        f"abc.nowhere.com, which {CHALLENGE} is an alias of, is in no zone that the DNS knows. Correct the CNAME "
        f"record of {CHALLENGE}."
    )


def test_a_name_in_no_zone_is_an_error(world: World) -> None:
    assert told(world) == (f"{CHALLENGE} is in no zone that the DNS knows. Correct the name, or register its domain.")


def test_aliases_in_a_circle_are_an_error(world: World) -> None:
    serve_elsewhere(world, f"{CHALLENGE}. 60 IN CNAME one\none 60 IN CNAME {CHALLENGE}.\n")
    assert told(world) == (
        f"{CHALLENGE} is an alias (CNAME) without an end: {CHALLENGE} -> one.{NAME} -> ... Correct or remove the CNAME "
        f"record of one.{NAME}."
    )


def test_one_name_server_of_two_elsewhere_is_a_warning(world: World) -> None:
    two = f"@ 60 IN NS ns.provider.com.\n{AT_MACHINE}"
    world.delegate(server=f"ns.{NAME}.", glue=MACHINE)
    world.delegate()
    world.provider.append(zone(NAME, two))
    world.own.append(zone(NAME, two))
    assert warned(world) == (
        f"{CHALLENGE} is looked up at ns.provider.com ({PROVIDER}), too, which do not have the answer: about 1 of 2 "
        f"look-ups fail. Add to the zone {NAME}, once: '{CHALLENGE}. 3600 IN NS {NAME}.'"
    )


def test_a_delegation_to_two_of_which_one_is_elsewhere_is_a_warning(world: World) -> None:
    serve_elsewhere(world, f"{DELEGATED}{CHALLENGE}. 60 IN NS ns.provider.com.\n")
    assert warned(world) == (
        f"{CHALLENGE} is looked up at ns.provider.com ({PROVIDER}), too, which do not have the answer: about 1 of 2 "
        f"look-ups fail. Let only this remain of the NS records of {CHALLENGE}: '{CHALLENGE}. 3600 IN NS {NAME}.'"
    )


def test_name_servers_elsewhere_that_do_not_answer_are_a_warning(world: World) -> None:
    world.delegate()
    lead = world.lead(serve_provider=False)
    assert lead.error is None
    assert lead.warnings == (
        f"{CHALLENGE} is in a zone of ns.provider.com ({PROVIDER}), which did not answer. Whether it is delegated to "
        "this machine is not known.",
    )


def test_addresses_that_a_server_here_may_get_queries_from_are_a_warning(world: World) -> None:
    """A hidden primary, or a machine behind a load balancer: only its user knows."""
    serve_elsewhere(world)
    world.own.append(zone(NAME, AT_PROVIDER))
    assert warned(world) == (
        f"{CHALLENGE} is looked up at ns.provider.com ({PROVIDER}), not an address of this machine. That works only if "
        f"queries are forwarded from there. Otherwise: Add to the zone {NAME}, once: '{CHALLENGE}. 3600 IN NS {NAME}.'"
    )


def behind_a_router(world: World) -> None:
    """Let the machine's own addresses be private."""
    world.machine.run("ip", "address", "add", "10.1.2.3/32", "dev", "lo")
    world.machine.run("ip", "route", "add", "default", "dev", "eth0", "src", "10.1.2.3")


def test_where_addresses_are_translated_it_is_not_known_whether_one_leads_here(world: World) -> None:
    behind_a_router(world)
    world.delegate(server=f"ns.{NAME}.", glue="198.51.100.77")
    lead = world.lead()
    assert lead.error is None
    assert not lead.warnings
    assert lead.remarks == (
        f"{CHALLENGE} is looked up at ns.{NAME} (198.51.100.77). Whether that leads to this machine is not known, as "
        "its own addresses are private.",
    )


def test_where_addresses_are_translated_one_that_answers_while_none_does_here_is_elsewhere(world: World) -> None:
    behind_a_router(world)
    serve_elsewhere(world)
    assert "not at this machine" in told(world)


def test_without_a_resolver_it_goes_on_and_says_so(lonely_host: Host, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.9\n")
    with lonely_host.inside():
        lead = leads([NAME], seconds=1, resolv_conf=str(tmp_path / "resolv.conf"))[NAME]
    assert lead.owner == CHALLENGE
    assert lead.warnings == (
        f"Where {CHALLENGE} is looked up is not known: no usable answer from 127.0.0.9 (not in time).",
    )


def test_look_ups_that_do_not_end_are_left_behind(lonely_host: Host) -> None:
    def hang(query: bytes) -> bytes:
        time.sleep(1.5)
        return query

    names = [f"{number}.{NAME}" for number in range(20)]
    with answering(lonely_host, hang) as resolv_conf:
        begin = time.monotonic()
        found = leads(names, seconds=1, resolv_conf=resolv_conf)
    assert time.monotonic() - begin < 4
    assert list(found) == names
    assert all("not in time" in lead.warnings[0] for lead in found.values())


def test_no_resolver_is_asked_for_the_challenge_or_what_it_is_an_alias_of(world: World) -> None:
    serve_elsewhere(world, f"{CHALLENGE}. 60 IN CNAME {TARGET}.\n{ALIASES}. 60 IN NS {NAME}.\n")
    world.lead()
    asked = world.asked_of_resolver
    assert f" {ALIASES}. SOA " in asked
    assert "_acme-challenge" not in asked
    assert TARGET not in asked

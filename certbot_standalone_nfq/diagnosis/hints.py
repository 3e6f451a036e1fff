"""The words for a diagnosis: what was seen here, and what to look at. Nothing is said that was not seen."""

from __future__ import annotations

from collections.abc import Sequence

from certbot_standalone_nfq.diagnosis.rules import Cause, Diagnosis

MAX_LINES = 6
_MAX_NAMED = 4
"""Addresses or names to list before the rest is only counted."""

_WORDS = {
    Cause.NAME_TROUBLE: (
        "{trouble}{answered_all_the_same}. That is a matter of its DNS zone or name servers; leave the web server "
        "as it is."
    ),
    Cause.UNACKNOWLEDGED: (
        "{requests} arrived (from {peers}) and {were} answered, but no answer was acknowledged: what this machine "
        "sends does not get back there. Look at the return path: outgoing firewall rules, routing, MTU."
    ),
    Cause.BEHIND_PROXY: (
        "{requests} arrived and {were} answered, but came by a proxy or CDN at {peers} (headers {headers}). If the "
        "authority got something else, the proxy changed or cached it: let it pass /.well-known/acme-challenge/ "
        "unchanged."
    ),
    Cause.OTHER_PERSPECTIVE: (
        "{requests} from {peers} arrived and {were} answered, so port {port} works from there. Authorities ask from "
        "several places: look for what blocks others (geo-blocking, a firewall on the way) and for addresses of the "
        "name that lead elsewhere; the web server is not the reason."
    ),
    Cause.OTHER_PROGRAM: (
        "{requests} arrived at this machine (from {peers}) but did not get to this plugin. Something on this machine "
        "takes them first: another ACME client, NOTRACK or queue rules, a transparent proxy. Run "
        "'certbot-standalone-nfq doctor', and look at the rules of the raw and mangle tables."
    ),
    Cause.REDIRECTED: (
        "no challenge request {arrived_here}, and the authority was redirected. Something in front{at} "
        "answers port {port} for it (a CDN, proxy, router or hosting panel): let /.well-known/acme-challenge/ through "
        "there without a redirection."
    ),
    Cause.NOT_THIS_MACHINE: (
        "no challenge request {arrived_here}. The name leads to {addresses}, which {is_not_own} of this machine: "
        "{cure}."
    ),
    Cause.REFUSED: (
        "{connections} over {families} (from {peers}) {were} refused by this machine: nothing listens on port {port} "
        "of {addresses}, or a firewall rule rejects it. Let the web server listen there."
    ),
    Cause.DROPPED: (
        "{attempts} over {families} (from {peers}) arrived at this machine and got no answer of it. A firewall rule "
        "here drops them, or the routing: allow TCP port {port} in."
    ),
    Cause.RETURN_PATH: (
        "{attempts} over {families} (from {peers}) {were} answered by this machine, but the answer did not arrive "
        "there. Look at the return path: outgoing firewall rules, routing, a second uplink."
    ),
    Cause.NO_REQUEST: (
        "{connections} over {families} (from {peers}) {were} opened, but no challenge request came that way. Something "
        "on the way lets connections through and holds requests back: an inspecting firewall, or an MTU problem."
    ),
    Cause.ONE_FAMILY: (
        "nothing arrived over {families}, though the name has the {record} record {addresses}; over {other_family}, "
        "{arrived} did. Open port {port} for {families} on the way here, or remove that record."
    ),
    Cause.NOTHING: (
        "{what}{others}. Check that the name's A and AAAA records lead here"
        "{leads} and that no firewall or provider blocks the port on the way."
    ),
}
_WORDS_OF_ADDRESS = {
    Cause.OTHER_PERSPECTIVE: (
        "{requests} from {peers} arrived and {were} answered, so port {port} works from there. Authorities ask from "
        "several places: look for what blocks others (geo-blocking, a firewall on the way); the web server is not the "
        "reason."
    ),
    Cause.NOT_THIS_MACHINE: (
        "no challenge request {arrived_here}. {addresses} {is_not_own} of this machine: {cure_of_address}."
    ),
    Cause.ONE_FAMILY: (
        "nothing arrived over {families}; over {other_family}, {arrived} did. Open port {port} for {families} on the "
        "way here."
    ),
    Cause.NOTHING: "{what}{others}. Check that no firewall or provider blocks the port on the way.",
}
"""What is said instead if the certificate is for an address, which has no records to look at (RFC 8738)."""
_TROUBLES = {
    "caa": "the authority may not certify it: a CAA record, of the name or of a parent, forbids it",
    "dnssec": "the authority's DNSSEC validation of its DNS records failed",
}
_OTHER_TROUBLE = "the authority could not look it up in the DNS"


def hint(diagnoses: Sequence[Diagnosis]) -> str:
    """Return the hint for all failed names, in at most six lines. Names that failed alike share theirs."""
    names: dict[str, list[str]] = {}
    for diagnosis in diagnoses:
        names.setdefault(words(diagnosis), []).append(diagnosis.name)
    lines = [f"{listed(alike)}: {text}" for text, alike in names.items()]
    if len(lines) > MAX_LINES:
        rest = sum(len(alike) for alike in list(names.values())[MAX_LINES - 1 :])
        lines[MAX_LINES - 1 :] = [f"And {rest} more names, for other reasons: they are in Certbot's log."]
    return "\n".join(lines)


def words(diagnosis: Diagnosis) -> str:
    """Return what there is to say about one failure, in one line."""
    of_name = _WORDS[diagnosis.cause]
    text = _WORDS_OF_ADDRESS.get(diagnosis.cause, of_name) if diagnosis.is_of_address else of_name
    return text.format_map(_phrases(diagnosis))


def listed(items: Sequence[str]) -> str:
    """Return items as a list, the first few by name."""
    named = ", ".join(items[:_MAX_NAMED])
    return f"{named} and {len(items) - _MAX_NAMED} more" if len(items) > _MAX_NAMED else named


def _phrases(diagnosis: Diagnosis) -> dict[str, object]:
    """Return the phrases that the sentences above are made of."""
    count, addresses = diagnosis.count, listed(diagnosis.addresses)
    nothing_at_all = diagnosis.watched and not diagnosis.arrived
    requests = _count(count, "challenge request")
    port = f"TCP port {diagnosis.port} of this machine"
    # What was not looked at, or not all the time, may have arrived all the same.
    arrived_here = "arrived here" if diagnosis.watched else "reached this plugin"
    at_the_port = f"arrived at {port}" if diagnosis.watched else "reached this plugin"
    return {
        "port": diagnosis.port,
        "peers": listed(diagnosis.peers),
        "addresses": addresses,
        "headers": listed(diagnosis.headers),
        "families": " and ".join(f"IPv{version}" for version in diagnosis.families),
        "other_family": "IPv4" if 6 in diagnosis.families else "IPv6",
        "record": "AAAA" if 6 in diagnosis.families else "A",
        "requests": requests,
        "connections": _count(count, "connection"),
        "attempts": _count(count, "connection attempt"),
        "arrived": _count(diagnosis.arrived, "connection attempt"),
        "were": "was" if count == 1 else "were",
        "trouble": _TROUBLES.get(diagnosis.kind, _OTHER_TROUBLE),
        "answered_all_the_same": f" ({requests} came here and got an answer all the same)" if count else "",
        "at": f" at {addresses}" if addresses else "",
        "is_not_own": "is not an address" if len(diagnosis.addresses) == 1 else "are not addresses",
        "cure": _cure_of_addresses(diagnosis),
        "cure_of_address": _cure_of_address(diagnosis),
        "arrived_here": arrived_here,
        "what": f"no connection attempt arrived at {port}" if nothing_at_all else f"no challenge request {at_the_port}",
        "others": f", though {_count(diagnosis.arrived, 'other connection attempt')} did" if diagnosis.arrived else "",
        "leads": f" (from here, they are {addresses})" if addresses else "",
    }


def _cure_of_addresses(diagnosis: Diagnosis) -> str:
    if not diagnosis.translated:
        return (
            "correct its A and AAAA records, all of which must lead here, unless something at that address is to "
            "forward requests to this machine and does not"
        )
    return (
        f"have whatever has that address forward TCP port {diagnosis.port} to this machine, or correct the name's A "
        "and AAAA records"
    )


def _cure_of_address(diagnosis: Diagnosis) -> str:
    if diagnosis.translated:
        return f"have whatever has that address forward TCP port {diagnosis.port} to this machine"
    return (
        "ask for it on the machine that has it, unless something there is to forward requests to this machine and "
        "does not"
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"

"""The words for a diagnosis: what was seen here, and what to do. Nothing is said that was not seen."""

from __future__ import annotations

from collections.abc import Sequence

from certbot_standalone_nfq.diagnosis import dns_hints
from certbot_standalone_nfq.diagnosis.cause import Cause
from certbot_standalone_nfq.diagnosis.rules import Diagnosis

MAX_LINES = 6
_MAX_NAMED = 4
"""Addresses or names to list before the rest is only counted."""

_WORDS = {
    **dns_hints.WORDS,
    Cause.NAME_TROUBLE: (
        "{trouble}{although_answered}. Correct its DNS zone or its name servers; the web server is not the cause."
    ),
    Cause.UNACKNOWLEDGED: (
        "{requests} arrived (from {peers}) and {were} answered, but no answer was acknowledged: packets from this "
        "machine do not arrive. Check the return path: outgoing firewall rules, routing, MTU{changing_rule}."
    ),
    Cause.BEHIND_PROXY: (
        "{requests} arrived and {were} answered, but came through a proxy or CDN at {peers} (headers {headers}). If "
        "the CA received something else, the proxy changed or cached the answer. Configure the proxy to pass "
        "/.well-known/acme-challenge/ through unchanged."
    ),
    Cause.OTHER_PERSPECTIVE: (
        "{requests} from {peers} arrived and {were} answered{partly}, so port {port} works from there. CAs validate "
        "from several places. Check what blocks the others (geo-blocking, a firewall on the way), and whether the name "
        "has addresses of other machines. The web server is not the cause."
    ),
    Cause.UNFINISHED: (
        "{requests} arrived (from {peers}), but the dialogue did not come to its end: answers of this machine are "
        "lost, or the CA does not accept them. Check the return path: outgoing firewall rules, routing, MTU."
    ),
    Cause.ALTERED: (
        "{requests} arrived (from {peers}) with something added behind the token, which no CA adds, and {were} left to "
        "the web server. A redirect, proxy or CDN that the CA came by adds it. Make it pass the path and the query of "
        "/.well-known/acme-challenge/ unchanged."
    ),
    Cause.OTHER_PROGRAM: (
        "{requests} arrived at this machine (from {peers}) but did not reach this plugin. Something on this machine "
        "takes them first: {taker}. Run 'certbot-standalone-nfq doctor', and check the rules of the raw and mangle "
        "tables."
    ),
    Cause.REDIRECTED: (
        "no challenge request {arrived_here}, and the CA was redirected. Something in front of this machine{at} "
        "answers port {port} (a CDN, proxy, router or hosting panel). Configure it to pass "
        "/.well-known/acme-challenge/ through without a redirect."
    ),
    Cause.TLS_TERMINATED: (
        "no challenge request {arrived_here}, and what answered the CA{at} does not speak tls-alpn-01's protocol: a "
        "CDN or proxy in front of this machine that ends TLS. Have it pass TCP port {port} through, or validate by "
        "http-01 (--preferred-challenges http)."
    ),
    Cause.NOT_TLS: (
        "no challenge request {arrived_here}, and what answered the CA{at} speaks HTTP without TLS. Something in front "
        "of this machine leads port {port} to a port for plain HTTP. Correct that."
    ),
    Cause.ANOTHER_ANSWERED: (
        "no challenge request {arrived_here}, and another TLS server answered the CA{at}: a proxy or load balancer in "
        "front of this machine, or another ACME client. Have it pass TCP port {port} through to this machine, or "
        "validate by http-01 (--preferred-challenges http)."
    ),
    Cause.NOT_THIS_MACHINE: (
        "no challenge request {arrived_here}. The name resolves to {addresses}, which {is_not_own} of this machine. "
        "{cure}."
    ),
    Cause.REFUSED: ("{connections} over {families} (from {peers}) {were} refused by this machine{refusal}."),
    Cause.DROPPED: (
        "{attempts} over {families} (from {peers}) reached this machine, but it did not answer. A local firewall rule "
        "or the routing table drops them. Allow incoming connections to TCP port {port}."
    ),
    Cause.RETURN_PATH: (
        "{attempts} over {families} (from {peers}) {were} answered by this machine, but the answer did not arrive. "
        "Check the return path: outgoing firewall rules, routing, a second uplink."
    ),
    Cause.NO_REQUEST: (
        "{connections} over {families} (from {peers}) {were} opened, but no challenge request followed. Something on "
        "the way passes connections and blocks requests: an inspecting firewall, or an MTU problem."
    ),
    Cause.ONE_FAMILY: (
        "nothing arrived over {families}, although the name has the {record} record {addresses}; over {other_family}, "
        "{arrived} did. Open port {port} for {families} on the way to this machine, or remove that record."
    ),
    Cause.NOTHING: (
        "{what}{others}. Check that the name's A and AAAA records lead to this machine{found} and that no "
        "firewall or provider blocks the port on the way."
    ),
}
_WORDS_OF_ADDRESS = {
    Cause.OTHER_PERSPECTIVE: (
        "{requests} from {peers} arrived and {were} answered{partly}, so port {port} works from there. CAs validate "
        "from several places. Check what blocks the others (geo-blocking, a firewall on the way). The web server is "
        "not the cause."
    ),
    Cause.NOT_THIS_MACHINE: (
        "no challenge request {arrived_here}. {addresses} {is_not_own} of this machine. {cure_of_address}."
    ),
    Cause.ONE_FAMILY: (
        "nothing arrived over {families}; over {other_family}, {arrived} did. Open port {port} for {families} on the "
        "way to this machine."
    ),
    Cause.NOTHING: "{what}{others}. Check that no firewall or provider blocks the port on the way.",
}
"""What is said instead if the certificate is for an address, which has no DNS records (RFC 8738)."""
_TROUBLES = {
    "caa": "a CAA record of the name or of a parent domain forbids the CA to issue a certificate",
    "dnssec": "the DNSSEC validation of its DNS records failed at the CA",
}
_OTHER_TROUBLE = "the CA could not look it up in the DNS"


def hint(diagnoses: Sequence[Diagnosis], remarks: Sequence[str] = ()) -> str:
    """Return remarks, and the hint for all failed names, in at most six lines. Names that failed alike share theirs."""
    names: dict[str, list[str]] = {}
    for diagnosis in diagnoses:
        names.setdefault(explained(diagnosis), []).append(diagnosis.name)
    lines = [f"{listed(alike)}: {text}" for text, alike in names.items()]
    most = MAX_LINES - len(remarks)
    if len(lines) > most:
        rest = sum(len(alike) for alike in list(names.values())[most - 1 :])
        lines[most - 1 :] = [f"And {rest} more names, for other reasons; see Certbot's log."]
    return "\n".join([*remarks, *lines])


def explained(diagnosis: Diagnosis) -> str:
    """Return what there is to say about one failure, and where there is more, in one line."""
    return f"{words(diagnosis)} More: {diagnosis.cause.address}"


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
    were = "was" if count == 1 else "were"
    lost_were = "was" if diagnosis.lost == 1 else "were"
    port = f"TCP port {diagnosis.port} of this machine"
    # What was not watched, or not all the time, may have arrived unseen.
    arrived_here = "arrived here" if diagnosis.watched else "reached this plugin"
    at_the_port = f"arrived at {port}" if diagnosis.watched else "reached this plugin"
    return {
        "name": diagnosis.name,
        "asked": diagnosis.asked,
        "queries": _count(count, "query", "queries"),
        "although_asked": f" ({_count(count, 'query', 'queries')} did arrive here and {were} answered)"
        if count
        else "",
        "although_others": f", although queries for its {listed(diagnosis.other_kinds)} records did"
        if diagnosis.other_kinds
        else "",
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
        "were": were,
        "partly": f", but {_count(diagnosis.lost, 'answer')} {lost_were} not acknowledged" if diagnosis.lost else "",
        "refusal": _refusal(diagnosis, addresses),
        "trouble": _TROUBLES.get(diagnosis.kind, _OTHER_TROUBLE),
        "although_answered": f" ({requests} did arrive here and {were} answered)" if count else "",
        "at": f" at {addresses}" if addresses else "",
        "is_not_own": "is not an address" if len(diagnosis.addresses) == 1 else "are not addresses",
        "cure": _cure_of_addresses(diagnosis),
        "cure_of_address": _cure_of_address(diagnosis),
        "arrived_here": arrived_here,
        "what": f"no connection attempt arrived at {port}" if nothing_at_all else f"no challenge request {at_the_port}",
        "others": f", although {_count(diagnosis.arrived, 'other connection attempt')} did"
        if diagnosis.arrived
        else "",
        "found": f" (found: {addresses})" if addresses else "",
        "changing_rule": f"; and the rule that changes packets on their way: {listed(diagnosis.rules[:1])}"
        if diagnosis.rules
        else "",
        "taker": f"perhaps the program that this rule is for: {listed(diagnosis.rules[:1])}"
        if diagnosis.rules
        else "another ACME client, a rule that redirects without connection tracking",
    }


def _refusal(diagnosis: Diagnosis, addresses: str) -> str:
    """Return why connections were refused, and what to do about it."""
    where = f"on port {diagnosis.port} of {addresses}"
    if diagnosis.listening:
        return (
            f", although a program listens {where}: a firewall rule rejects them, perhaps a ban of addresses, such as "
            "fail2ban's. Find it with 'certbot-standalone-nfq doctor', and change it"
        )
    instead = "or a firewall rule rejects it. Make the web server listen there, or change the rule"
    return f": nothing listens {where}, {instead}"


def _cure_of_addresses(diagnosis: Diagnosis) -> str:
    if diagnosis.translated:
        return f"{_forward(diagnosis)}, or correct the name's A and AAAA records"
    return (
        "Correct its A and AAAA records, which must all lead to this machine; or, if a proxy at that address should "
        "forward requests here, fix the proxy"
    )


def _cure_of_address(diagnosis: Diagnosis) -> str:
    if diagnosis.translated:
        return _forward(diagnosis)
    return (
        "Request the certificate on the machine that has the address; or, if a proxy there should forward requests "
        "here, fix the proxy"
    )


def _forward(diagnosis: Diagnosis) -> str:
    return f"Forward TCP port {diagnosis.port} of that address (router, load balancer) to this machine"


def _count(number: int, thing: str, things: str = "") -> str:
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"

"""The words for the causes of dns-01."""

from __future__ import annotations

from certbot_standalone_nfq.diagnosis.cause import Cause

WORDS = {
    Cause.FORBIDDEN: (
        "a CAA record of the name or of a parent domain forbids the CA to issue{although_asked}. Check the issue and "
        "issuewild records: one must name the CA, and its validationmethods, if there are any, must have dns-01."
    ),
    Cause.NOT_BELIEVED: (
        "{queries} for {asked} arrived (from {peers}) and {were} answered, but the CA's resolver refused the answers. "
        "The zone is signed (DNSSEC), and this machine's answers are not. Delegate {asked} to this machine by an NS "
        "record, without a DS record."
    ),
    Cause.OTHER_NAME_SERVER: (
        "{queries} for {asked} arrived (from {peers}) and {were} answered, but the CA was told otherwise: by another "
        "name server of the zone, or by a resolver that had kept an older answer. This machine must be the only name "
        "server of {asked}. See 'certbot-standalone-nfq doctor --challenge dns-01 {name}'."
    ),
    Cause.OTHER_RESOLVER: (
        "{queries} for {asked} arrived (from {peers}) and {were} answered, so port {port} works from there. CAs "
        "validate from several places. Check what blocks the others from port {port}, over UDP and TCP (geo-blocking, "
        "a firewall on the way), and whether the zone has other name servers."
    ),
    Cause.QUERY_TAKEN: (
        "{queries} for {asked} arrived at this machine (from {peers}) but did not reach this plugin. Something on this "
        "machine takes them first: queue rules, a redirection without tracking. Run 'certbot-standalone-nfq doctor "
        "--challenge dns-01 {name}', and check the rules of the raw and mangle tables."
    ),
    Cause.NO_QUERY: (
        "no query for the TXT records of {asked} {arrived_here}{although_others}. Check that {asked} is delegated "
        "to this machine (NS), that its name server has this machine's address, and that nothing on the way blocks "
        "port {port}, over UDP and TCP. See 'certbot-standalone-nfq doctor --challenge dns-01 {name}'."
    ),
}

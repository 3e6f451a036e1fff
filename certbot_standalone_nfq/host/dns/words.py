"""What to tell the user about the path of a challenge, with the exact records to add once."""

from __future__ import annotations

from collections.abc import Sequence

from certbot_standalone_nfq import errors

_TTL = 3600
_MAX_NAMED = 4


def elsewhere(name: str, alias_of: str, servers: Sequence[str], cure: str) -> errors.Error:
    """Return the error for a name that only other machines are asked for."""
    return errors.Error(
        f"{_subject(name, alias_of)} is looked up at {listed(servers)}, not at this machine, so that its answer would "
        "not be found.",
        cure,
    )


def signed(name: str, alias_of: str, records: str, zone: str) -> errors.Error:
    """Return the error for a name in a signed zone."""
    return errors.Error(
        f"{_subject(name, alias_of)} is in the signed zone {zone} (DNSSEC), so that the unsigned answer of this "
        "machine would be refused.",
        f"Add to the zone {zone}, once, and without a DS record: {records}",
    )


def signed_delegation(name: str, alias_of: str) -> errors.Error:
    """Return the error for a delegation that says that answers are signed."""
    return errors.Error(
        f"{_subject(name, alias_of)} is delegated with a DS record (DNSSEC), so that the unsigned answer of this "
        "machine would be refused.",
        f"Remove the DS record of {name} from the zone above it; keep the NS record.",
    )


def here(name: str, alias_of: str, servers: Sequence[str]) -> str:
    """Return what there is to say if all is well."""
    return f"{_subject(name, alias_of)} is looked up at this machine: {listed(servers)}."


def circle(names: Sequence[str]) -> errors.Error:
    """Return the error for aliases without an end."""
    return errors.Error(
        f"{names[0]} is an alias (CNAME) without an end: {' -> '.join(names[:_MAX_NAMED])} -> ...",
        f"Correct or remove the CNAME record of {names[-1]}.",
    )


def nowhere(name: str, alias_of: str) -> errors.Error:
    """Return the error for a name that no zone has."""
    return errors.Error(
        f"{_subject(name, alias_of)} is in no zone that the DNS knows.",
        f"Correct the CNAME record of {alias_of}." if alias_of else "Correct the name, or register its domain.",
    )


def some_elsewhere(name: str, alias_of: str, servers: Sequence[str], share: tuple[int, int], cure: str) -> str:
    """Return the warning for name servers of which some are other machines."""
    return (
        f"{_subject(name, alias_of)} is looked up at {listed(servers)}, too, which do not have the answer: about "
        f"{share[0]} of {share[1]} look-ups fail. {cure}"
    )


def add(zone: str, records: str) -> str:
    """Return what to do about name servers that are other machines."""
    return f"Add to the zone {zone}, once: {records}"


def replace(name: str, records: str) -> str:
    """Return what to do about name servers of a delegation that are other machines."""
    return f"Let only this remain of the NS records of {name}: {records}"


def perhaps(name: str, alias_of: str, servers: Sequence[str], otherwise: str) -> str:
    """Return the warning for addresses that are not this machine's, though a server here has the zone."""
    return (
        f"{_subject(name, alias_of)} is looked up at {listed(servers)}, not an address of this machine. That works "
        f"only if queries are forwarded from there. {otherwise}"
    )


def translated(name: str, alias_of: str, servers: Sequence[str]) -> str:
    """Return the remark for addresses that may be translated to this machine's."""
    return (
        f"{_subject(name, alias_of)} is looked up at {listed(servers)}. Whether that leads to this machine is not "
        "known, as its own addresses are private."
    )


def unconfirmed(name: str, alias_of: str, servers: Sequence[str]) -> str:
    """Return the warning for name servers elsewhere that do not answer."""
    return (
        f"{_subject(name, alias_of)} is in a zone of {listed(servers)}, which did not answer. Whether it is delegated "
        "to this machine is not known."
    )


def unknown(name: str, reason: str) -> str:
    """Return the warning for a name that cannot be looked up."""
    return f"Where {name} is looked up is not known: {reason}."


def delegation(name: str, host: str, addresses: Sequence[str] = ()) -> str:
    """Return the records that delegate a name to a host, with the host's addresses if it has none yet."""
    records = [f"{name}. {_TTL} IN NS {host}."]
    for address in addresses:
        kind = "AAAA" if ":" in address else "A"
        records.append(f"{host}. {_TTL} IN {kind} {address}")
    return " and ".join(f"'{record}'" for record in records)


def listed(items: Sequence[str]) -> str:
    """Return items as a list, the first few by name."""
    named = ", ".join(items[:_MAX_NAMED])
    return f"{named} and {len(items) - _MAX_NAMED} more" if len(items) > _MAX_NAMED else named


def _subject(name: str, alias_of: str) -> str:
    return f"{name}, which {alias_of} is an alias of," if alias_of else name

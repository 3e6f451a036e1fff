"""Whether the CAA records of a name allow a type of challenge (RFC 8659, RFC 8657)."""

from __future__ import annotations

from collections.abc import Iterator

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.cli.doctor.finding import Finding, failed, passed, warned

_DNS_SECONDS = 2.0


def findings(name: str, typ: str) -> Iterator[Finding]:
    """Yield what the records say about a type of challenge for a name, which may be a wildcard."""
    try:
        from certbot_standalone_nfq.host import caa
        from certbot_standalone_nfq.host.dns.questions import Unreadable
    except ImportError as error:  # pip's --no-deps leaves it out
        yield warned("CAA", f"{name}: dnspython cannot be loaded: {error}.", "Install dnspython.")
        return
    wildcard = name.startswith("*.")
    try:
        owner, records = caa.caa_records(name[2:] if wildcard else name, _DNS_SECONDS)
    except Unreadable as error:
        yield warned(
            "CAA", f"{name}: could not be read: {error}.", "Check whether the nameserver answers for type CAA."
        )
        return
    except Exception as error:
        errors.raise_interruption(error)
        yield warned("CAA", f"{name}: could not be read: {error!r}.", "Ask for it with dig.")
        return
    if not records:
        yield passed("CAA", f"{name} has no CAA records: any CA may issue.")
        return
    shown = ", ".join(f'{record.tag} "{record.value}"' for record in records)
    seen = f"{name}: CAA records of {owner}: {shown}."
    tag, values = _deciding([(record.tag, record.value) for record in records], wildcard)
    if not values or any(allows(value, typ) for value in values):
        yield passed("CAA", seen)
    else:
        yield failed("CAA", f"{seen} None allows {typ}.", f"Add an {tag} record for your CA.")


def _deciding(records: list[tuple[str, str]], wildcard: bool) -> tuple[str, list[str]]:
    """Return the tag and the values that count: for a wildcard, issuewild if there is any (RFC 8659, section 4.3)."""
    by_tag = {tag: [value for each, value in records if each == tag] for tag in ("issue", "issuewild")}
    tag = "issuewild" if wildcard and by_tag["issuewild"] else "issue"
    return tag, by_tag[tag]


def allows(value: str, typ: str) -> bool:
    """Whether a record's value names a CA, with a type of challenge among its methods (RFC 8657)."""
    ca, *parameters = (part.strip() for part in value.split(";"))
    methods = [
        part.partition("=")[2].strip()
        for part in parameters
        if part.partition("=")[0].strip().lower() == "validationmethods"
    ]
    return bool(ca) and all(typ in each.split(",") for each in methods)

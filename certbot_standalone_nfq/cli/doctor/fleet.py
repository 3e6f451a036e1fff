"""What `answer` needs, beside what every validation does: the right account, and that each machine runs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from certbot_standalone_nfq.challenges.http01 import host
from certbot_standalone_nfq.challenges.http01.any_token import THUMBPRINT
from certbot_standalone_nfq.cli.answer.accounts import FROM_CERTBOT, accounts
from certbot_standalone_nfq.cli.doctor.finding import Finding, failed, passed, warned
from certbot_standalone_nfq.host import claims, resolver
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.session.answerer import CLAIM

_SECONDS = 3.0


def findings(port: int, names: Sequence[str], thumbprint: str, config_dir: Path) -> Iterator[Finding]:
    """Yield whose thumbprint it is, and of each name where it leads to, and who answers for it here."""
    yield _account(thumbprint, config_dir)
    found = resolver.look_up(names, Deadline(_SECONDS))
    for name in names:
        yield from _whereabouts(name, found.get(name, ()))
        yield _answering(name, port)


def _account(thumbprint: str, config_dir: Path) -> Finding:
    if not THUMBPRINT.fullmatch(thumbprint):
        return failed("account", f"{thumbprint!r} is no account's thumbprint.", FROM_CERTBOT)
    there = accounts(config_dir)
    servers = [account.server for account in there if account.thumbprint == thumbprint]
    if servers:
        return passed("account", f"{thumbprint} is the thumbprint of Certbot's account at {servers[0]}.")
    others = ", ".join(account.thumbprint for account in there)
    return warned(
        "account",
        f"{thumbprint} is not the thumbprint of an account that Certbot has here"
        f"{f', which are {others}' if others else ''}.",
        "This is fine if it is that of another machine's Certbot: compare with 'certbot show_account' there.",
    )


def _whereabouts(name: str, addresses: Sequence[str]) -> Iterator[Finding]:
    own = [address for address in addresses if resolver.is_local(address)]
    others = ", ".join(address for address in addresses if address not in own)
    if own and others:
        yield passed("fleet", f"{name} leads to this machine and to {others}, where `answer` has to run as well.")
    elif own:
        yield passed("fleet", f"{name} leads to no machine but this one.")
    elif others:
        yield passed("fleet", f"{name} leads to {others}: a balancer there has to pass requests on to this machine.")


def _answering(name: str, port: int) -> Finding:
    holder = claims.holder(CLAIM, str(port), _normal(name))
    if holder:
        return passed("answer", f"{holder} answers for {name} on port {port}.")
    return warned(
        "answer",
        f"No process on this machine answers for {name} on port {port}.",
        f"Start 'certbot-standalone-nfq answer -d {name}', with the thumbprint, as a service.",
    )


def _normal(name: str) -> str:
    try:
        return host.normal(name)
    except ValueError:
        return name

"""The subcommand: from arguments to an exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import datetime, timezone

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.cli import arguments
from certbot_standalone_nfq.cli.answer import accounts
from certbot_standalone_nfq.cli.doctor import fleet, renewals
from certbot_standalone_nfq.cli.doctor.examine import examine
from certbot_standalone_nfq.cli.doctor.finding import Finding, failed
from certbot_standalone_nfq.cli.doctor.names import understood
from certbot_standalone_nfq.cli.doctor.need import Need
from certbot_standalone_nfq.cli.doctor.objects import as_json
from certbot_standalone_nfq.cli.doctor.report import Report, folded
from certbot_standalone_nfq.cli.doctor.text import as_text, terminal
from certbot_standalone_nfq.settings import DEFAULT_PORTS, DNS_01, HTTP_01

_SECONDS_FOR_NAMES = 10.0
"""For those of all certificates, of which there may be many."""


def run(options: argparse.Namespace) -> int:
    """Run all checks, print the findings, and return the exit status."""
    if options.renewals and (options.challenge or options.port):
        sys.stderr.write("With --renewals, the challenge and the port are those of Certbot's renewal files.\n")
        return 2
    report = (_on_renewals if options.renewals else _on_a_validation)(options)
    text = as_json(report) if options.json else as_text(report, terminal(sys.stdout), quiet=options.quiet)
    sys.stdout.write(text)
    return report.exit_status(strict=options.strict)


def _on_a_validation(options: argparse.Namespace) -> Report:
    needs = _needs(options)
    findings = list(examine(needs, load_modules=options.load_modules))
    if options.thumbprint or options.account:
        findings += _on_answering(options, needs[0].port, list(map(understood, arguments.names(options))))
    return Report(folded(findings))


def _on_answering(options: argparse.Namespace, number: int, names: list[str]) -> Iterator[Finding]:
    """Yield what `answer` with the same options needs."""
    try:
        thumbprint = options.thumbprint or accounts.only(options.config_dir, options.server).thumbprint
    except errors.Error as error:
        yield failed("account", error.cause, error.cure)
    else:
        yield from fleet.findings(number, names, thumbprint, options.config_dir)


def _needs(options: argparse.Namespace) -> list[Need]:
    """Return what Certbot would validate: wildcards by dns-01, unless one type was asked for."""
    names, (typ, number) = arguments.names(options), arguments.chosen(options)
    wildcards = tuple(name for name in names if name.startswith("*."))
    if typ or not wildcards:
        return [Need(number, typ, tuple(names))]
    others = tuple(name for name in names if name not in wildcards)
    if not others:
        return [Need(options.port or DEFAULT_PORTS[DNS_01], DNS_01, wildcards)]
    return [Need(number, HTTP_01, others), Need(DEFAULT_PORTS[DNS_01], DNS_01, wildcards)]


def _on_renewals(options: argparse.Namespace) -> Report:
    """Report on all of Certbot's certificates, or on those with one of the names that were given."""
    names = list(map(understood, arguments.names(options)))
    try:
        found = renewals.renewals(options.config_dir, datetime.now(timezone.utc))
    except (ImportError, OSError) as error:
        return Report((renewals.unreadable(options.config_dir, error),), renewals=())
    chosen = [renewal for renewal in found if not names or renewal.is_about(names)]
    if not chosen:
        return Report((renewals.nothing(options.config_dir, names),), renewals=())
    findings = [finding for renewal in chosen for finding in renewals.findings(renewal)]
    needs = renewals.merged(need for renewal in chosen for need in renewal.needs)
    if needs:
        findings += examine(needs, load_modules=options.load_modules, seconds_for_names=_SECONDS_FOR_NAMES)
    return Report(folded(findings), tuple(chosen))

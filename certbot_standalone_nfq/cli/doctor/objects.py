"""A report for programs: JSON as docs/doctor.md describes it, which later versions only add to."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from certbot_standalone_nfq.cli.doctor.finding import Finding, Status
from certbot_standalone_nfq.cli.doctor.need import Need
from certbot_standalone_nfq.cli.doctor.renewals import Renewal
from certbot_standalone_nfq.cli.doctor.report import Report

SCHEMA = 1
"""Increased if something is removed, or gets another meaning."""


def as_json(report: Report) -> str:
    """Return a report as one JSON object."""
    return json.dumps(_report(report), indent=2) + "\n"


def _report(report: Report) -> dict[str, Any]:
    shown = {
        "schema": SCHEMA,
        "status": report.status.value,
        "counts": {status.value: report.count(status) for status in Status},
        "findings": list(map(_finding, report.findings)),
    }
    return shown if report.renewals is None else {**shown, "certificates": list(map(_certificate, report.renewals))}


def _finding(finding: Finding) -> dict[str, str]:
    return {"status": finding.status.value, "check": finding.check, "seen": finding.seen, "cure": finding.cure}


def _certificate(renewal: Renewal) -> dict[str, Any]:
    lineage, certificate = renewal.lineage, renewal.lineage.certificate
    return {
        "name": lineage.name,
        "file": str(lineage.file),
        "problem": lineage.problem or None,
        "names": list(renewal.names),
        "not_before": certificate.begin.isoformat() if certificate else None,
        "not_after": certificate.end.isoformat() if certificate else None,
        "days_left": None if renewal.left is None else round(renewal.left / timedelta(days=1), 2),
        "overdue": renewal.overdue,
        "automatic": renewal.automatic,
        "authenticator": renewal.authenticator or None,
        "installer": renewal.installer or None,
        "hooks": list(renewal.hooks),
        "needs": list(map(_need, renewal.needs)),
    }


def _need(need: Need) -> dict[str, Any]:
    return {"challenge": need.typ, "port": need.port, "names": list(need.names), "capture": need.capture}

"""A report for programs: JSON as docs/doctor.md describes it, which later versions only add to."""

from __future__ import annotations

import json
from typing import Any

from certbot_standalone_nfq.cli.doctor.finding import Finding, Status
from certbot_standalone_nfq.cli.doctor.report import Report

SCHEMA = 1
"""Increased if something is removed, or gets another meaning."""


def as_json(report: Report) -> str:
    """Return a report as one JSON object."""
    return json.dumps(_report(report), indent=2) + "\n"


def _report(report: Report) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "status": report.status.value,
        "counts": {status.value: report.count(status) for status in Status},
        "findings": list(map(_finding, report.findings)),
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"status": finding.status.value, "check": finding.check, "seen": finding.seen, "cure": finding.cure}

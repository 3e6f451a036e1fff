"""All findings of a run, and what they come to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from certbot_standalone_nfq.cli.doctor.finding import Finding, Status
from certbot_standalone_nfq.cli.doctor.renewals import Renewal

PRIVILEGES = "privileges"
"""The check whose failure is why others could not be made."""
_BY_WEIGHT = (Status.FAIL, Status.WARN, Status.PASS)


@dataclass(frozen=True)
class Report:
    """What a run found."""

    findings: tuple[Finding, ...]
    """In their order."""
    renewals: tuple[Renewal, ...] | None = None
    """Certbot's certificates, if they were looked at."""

    @property
    def subject(self) -> str:
        """What the findings are about."""
        return "validation" if self.renewals is None else "renewal"

    @property
    def status(self) -> Status:
        """The status of the worst finding."""
        return next((status for status in _BY_WEIGHT if self.count(status)), Status.PASS)

    def count(self, status: Status) -> int:
        """Return how many findings have a status."""
        return sum(finding.status is status for finding in self.findings)

    def exit_status(self, *, strict: bool) -> int:
        """Return 1 if there is a fail, or, for strict users, a warning; else 0."""
        return int(self.status is Status.FAIL or (strict and self.status is Status.WARN))


def folded(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return each finding once, and all that a lack of privileges left unchecked as a part of the finding about it."""
    found = tuple(dict.fromkeys(findings))
    left_out = dict.fromkeys(finding.check for finding in found if finding.unchecked)
    lack = next((each for each in found if each.check == PRIVILEGES and each.status is Status.FAIL), None)
    if not lack or not left_out:
        return found
    cure = f"{lack.cure} Run the doctor as root, too; it could not check: {', '.join(left_out)}."
    whole = dataclasses.replace(lack, cure=cure)
    return tuple(whole if each is lack else each for each in found if not each.unchecked)

"""Why a validation by dns-01 failed, as the queries that came show it. No words here."""

from __future__ import annotations

from collections.abc import Sequence

from certbot_standalone_nfq.diagnosis.cause import Cause
from certbot_standalone_nfq.diagnosis.rules import Case, Diagnosis
from certbot_standalone_nfq.engine.protocols import ChallengeId

DECIDING = "TXT"
"""The type of record that has the answer."""


def diagnose(case: Case, challenge: ChallengeId) -> Diagnosis:
    """Return the first cause that the evidence shows; the challenge is as it was asked for."""
    seen, problem = case.seen, case.problem
    answered = [request.connection.peer for request in seen.requests]
    others = [query.peer for query in seen.queries if query.question.kind == DECIDING]

    def conclude(cause: Cause, peers: Sequence[str], count: int) -> Diagnosis:
        kinds = {query.question.kind for query in seen.queries} - {DECIDING}
        facts = {"count": count, "peers": tuple(dict.fromkeys(peers)), "other_kinds": tuple(sorted(kinds))}
        return case.conclude(cause, asked=challenge.key, **facts)

    if problem.kind == "caa":
        return conclude(Cause.FORBIDDEN, answered, seen.count)
    if seen.count and problem.is_of_signatures:
        return conclude(Cause.NOT_BELIEVED, answered, seen.count)
    if seen.count and problem.found_no_answer:
        return conclude(Cause.OTHER_NAME_SERVER, answered, seen.count)
    if seen.count:
        return conclude(Cause.OTHER_RESOLVER, answered, seen.count)
    if others:
        return conclude(Cause.QUERY_TAKEN, others, len(others))
    return conclude(Cause.NO_QUERY, [query.peer for query in seen.queries], len(seen.queries))

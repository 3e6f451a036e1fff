"""What findings come to, and how they are shown."""

from __future__ import annotations

import io
import json

import pytest

from certbot_standalone_nfq.cli.doctor.finding import Finding, Status, failed, passed, unchecked, warned
from certbot_standalone_nfq.cli.doctor.objects import as_json
from certbot_standalone_nfq.cli.doctor.report import Report, folded
from certbot_standalone_nfq.cli.doctor.text import Terminal, as_text, terminal

pytestmark = pytest.mark.anywhere

GOOD = passed("listener", "nginx listens on 0.0.0.0:80.")
DOUBTFUL = warned("firewall", "The policy of INPUT is DROP.", "Allow TCP port 80, unless another rule already does.")
BAD = failed("CAA", "None allows http-01.", "Add an issue record for your CA.")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("findings", "status", "usual", "strict"),
    [
        ((GOOD,), Status.PASS, 0, 0),
        ((GOOD, DOUBTFUL), Status.WARN, 0, 1),
        ((BAD, DOUBTFUL, GOOD), Status.FAIL, 1, 1),
        ((), Status.PASS, 0, 0),
    ],
)
def test_the_worst_finding_decides_and_a_warning_only_if_asked_to(
    findings: tuple[Finding, ...], status: Status, usual: int, strict: int
) -> None:
    report = Report(findings)
    assert report.status is status
    assert (report.exit_status(strict=False), report.exit_status(strict=True)) == (usual, strict)


def test_what_a_lack_of_privileges_left_unchecked_is_one_line() -> None:
    lack = failed("privileges", "CAP_NET_ADMIN is missing.", "Run Certbot as root.")
    found = folded([lack, unchecked("self-test", "Skipped."), GOOD, unchecked("queues", "?"), unchecked("queues", "!")])
    assert found == (
        failed(
            "privileges",
            "CAP_NET_ADMIN is missing.",
            "Run Certbot as root. Run the doctor as root, too; it could not check: self-test, queues.",
        ),
        GOOD,
    )


def test_what_is_unchecked_though_privileges_suffice_stays_where_it_is() -> None:
    skipped = unchecked("self-test", "Skipped: it needs CAP_SYS_ADMIN.")
    assert folded([passed("privileges", "In effect."), skipped]) == (passed("privileges", "In effect."), skipped)


def test_a_finding_is_shown_once() -> None:
    assert folded([GOOD, DOUBTFUL, GOOD]) == (GOOD, DOUBTFUL)


def test_where_no_terminal_is_a_finding_is_one_line_without_colours() -> None:
    assert as_text(Report((GOOD, DOUBTFUL)), terminal(io.StringIO())).splitlines() == [
        "pass  listener: nginx listens on 0.0.0.0:80.",
        "warn  firewall: The policy of INPUT is DROP. Allow TCP port 80, unless another rule already does.",
        "",
        "1 pass, 1 warn, 0 fail. Nothing was found that surely prevents a validation; see the warnings.",
    ]


def test_quietly_only_what_did_not_pass_is_shown_and_all_is_counted() -> None:
    assert as_text(Report((GOOD, BAD)), None, quiet=True).splitlines() == [
        "fail  CAA: None allows http-01. Add an issue record for your CA.",
        "",
        "1 pass, 0 warn, 1 fail. A validation will probably not succeed.",
    ]
    assert as_text(Report((GOOD,)), None, quiet=True) == ""


def test_on_a_terminal_lines_break_between_words_and_the_cure_begins_a_line() -> None:
    assert as_text(Report((DOUBTFUL,)), Terminal(34, colours=False)).splitlines() == [
        "warn  firewall: The policy of",
        "      INPUT is DROP.",
        "      Allow TCP port 80, unless",
        "      another rule already does.",
        "",
        "0 pass, 1 warn, 0 fail. Nothing",
        "was found that surely prevents a",
        "validation; see the warnings.",
    ]


def test_what_is_to_be_copied_is_left_whole_however_narrow_the_terminal() -> None:
    record = "_acme-challenge.a-rather-long-name.example.com."
    shown = as_text(
        Report((failed("DNS", "It leads elsewhere.", f"Add: {record} NS ns.example.com."),)), Terminal(20, False)
    )
    assert f"      {record}" in shown.splitlines()


def test_colours_change_nothing_but_colours() -> None:
    report = Report((GOOD, DOUBTFUL, BAD))
    coloured = as_text(report, Terminal(40, colours=True))
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[32m", "\x1b[33m", "\x1b[1;31m"):
        assert code in coloured
        coloured = coloured.replace(code, "")
    assert coloured == as_text(report, Terminal(40, colours=False))


def test_a_status_that_does_not_fit_on_its_line_is_shown_without_colours() -> None:
    shown = as_text(Report((warned("a check with a long name", "Seen.", "Do."),)), Terminal(20, colours=True))
    assert shown.startswith("warn  a check with a\n      long name:\n      Seen.\n")


@pytest.mark.parametrize(
    ("variables", "colours"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_may_have_them(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], colours: bool
) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "77", "NO_COLOR": "", **variables}.items():
        monkeypatch.setenv(name, value)
    assert terminal(Screen()) == Terminal(77, colours)


def test_no_line_controls_the_terminal() -> None:
    hostile = passed("clients", "Running: \x1b]0;title\x07\r\n\u202e.")
    for shown_on in (None, Terminal(80, colours=False)):
        assert as_text(Report((hostile,)), shown_on).startswith(
            "pass  clients: Running: \\x1b]0;title\\x07\\r\\n\\u202e.\n"
        )


def test_json_counts_the_findings() -> None:
    shown = json.loads(as_json(Report((GOOD, DOUBTFUL))))
    assert shown["schema"] == 1
    assert shown["status"] == "warn"
    assert shown["counts"] == {"pass": 1, "warn": 1, "fail": 0}
    assert [found["check"] for found in shown["findings"]] == ["listener", "firewall"]

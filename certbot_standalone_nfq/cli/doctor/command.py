"""The subcommand: from arguments to an exit status."""

from __future__ import annotations

import argparse
import sys

from certbot_standalone_nfq.cli import arguments
from certbot_standalone_nfq.cli.doctor.examine import examine
from certbot_standalone_nfq.cli.doctor.objects import as_json
from certbot_standalone_nfq.cli.doctor.report import Report, folded
from certbot_standalone_nfq.cli.doctor.text import as_text, terminal


def run(options: argparse.Namespace) -> int:
    """Run all checks, print the findings, and return the exit status."""
    typ, number = arguments.chosen(options)
    report = Report(folded(examine(number, arguments.names(options), options.load_modules, typ)))
    sys.stdout.write(as_json(report) if options.json else as_text(report, terminal(sys.stdout)))
    return report.exit_status(strict=options.strict)

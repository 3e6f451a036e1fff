"""Answer http-01 requests for any token of an account, for names that this machine shares with others.

It runs until it is stopped. The server on the port keeps the port. On SIGHUP, the file is read again.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
from collections.abc import Mapping

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.cli.answer import accounts, names
from certbot_standalone_nfq.cli.answer.running import Running
from certbot_standalone_nfq.host import privileges
from certbot_standalone_nfq.settings import DEFAULT_PORTS, HTTP_01, OPTIONS, Settings


def run(options: argparse.Namespace) -> int:
    """Answer until stopped, and return the exit status."""
    _log_to_stderr()
    _allow_open_files()
    try:
        settings = _settings(options)
        privileges.require_linux()
        privileges.require_capabilities()
        return Running(settings, lambda: wanted(options), listen=options.listen).run()
    except errors.Error as error:
        sys.stderr.write(f"{error}\n")
        return 1


def wanted(options: argparse.Namespace) -> Mapping[str, str]:
    """Return the names to answer for with their thumbprints, as of now. Raises one of the package's errors."""
    thumbprint = options.thumbprint
    if options.account:
        thumbprint = accounts.only(options.config_dir, options.server).thumbprint
    return names.wanted(options.names, thumbprint, options.config)


def _settings(options: argparse.Namespace) -> Settings:
    """Return what the options say. Raises errors.BadOption."""
    values = {option.name: getattr(options, option.name.replace("-", "_"), None) for option in OPTIONS}
    for option in OPTIONS:
        option.check(values[option.name])
    return Settings(
        ports={**DEFAULT_PORTS, HTTP_01: options.port},
        queue=options.queue_num,
        mark=options.mark,
        capture=options.capture,
        queue_client=options.queue_client,
        evidence=False,
        lasting=True,
    )


def _allow_open_files() -> None:
    """Have room for a claim for each name, if that is permitted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted_ = 2 * names.MAX_NAMES
    if soft != resource.RLIM_INFINITY and soft < wanted_:
        limit = wanted_ if hard == resource.RLIM_INFINITY else min(wanted_, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


class _JournalFormatter(logging.Formatter):
    """Lines as the journal reads their importance: sd-daemon(3)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a line."""
        importance = 6 if record.levelno < logging.WARNING else 4
        return f"<{importance}>{super().format(record)}"


def _log_to_stderr() -> None:
    to_journal = "JOURNAL_STREAM" in os.environ
    handler = logging.StreamHandler()
    handler.setFormatter(_JournalFormatter() if to_journal else logging.Formatter("%(asctime)s %(message)s"))
    package = logging.getLogger("certbot_standalone_nfq")
    package.addHandler(handler)
    package.setLevel(logging.INFO)

"""Tools around the standalone-nfq plugin of Certbot, which work without Certbot too."""

from __future__ import annotations

import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.cli.parser import parser
from certbot_standalone_nfq.session import requirements

_READER_GONE = 128 + signal.SIGPIPE
"""What shells make of a program that SIGPIPE ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return the exit status. Raises SystemExit(2) for invalid arguments."""
    # The package's log is for Certbot, and findings say in our own words what scapy warns about.
    logging.getLogger("certbot_standalone_nfq").addHandler(logging.NullHandler())
    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what is shown may have letters that the locale does not have
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(argv)
    try:
        requirements.load_scapy()
    except errors.Error as error:
        sys.stderr.write(f"{error}\n")
        return 1
    try:
        status: int = importlib.import_module(options.module).run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone, as head does once it has its lines
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's end would try to write again
        return _READER_GONE
    return status

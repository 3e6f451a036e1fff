"""The authenticator, prepared and set to work as Certbot does it, in a program of its own that says what came of it."""

from __future__ import annotations

import argparse
import subprocess
import sys

from certbot import errors

from certbot_standalone_nfq.authenticator import Authenticator
from lab.achalls import achall
from lab.hosts import Host
from lab.processes import UNMEASURED

WORKS = "It works.\n"


def try_out(host: Host, *wrapper: str, module: str = "lab.plugin", options: tuple[str, ...] = ()) -> str:
    """Run the plugin on a host, inside what limits its powers; return WORKS, or our class and words of its error."""
    command = host.command(*UNMEASURED, *wrapper, sys.executable, "-m", module, *options)
    finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert not finished.returncode, finished.stderr
    return finished.stdout


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http-01-port", dest="http01_port", type=int, default=80)
    parser.add_argument("--http-01-address", dest="http01_address", default="")
    Authenticator.inject_parser_options(parser, "standalone-nfq")
    authenticator = Authenticator(parser.parse_args(), "standalone-nfq")
    try:
        authenticator.prepare()
        authenticator.perform([achall(1)])
        authenticator.cleanup([achall(1)])
    except errors.PluginError as error:
        print(f"{type(error.__cause__).__name__}: {error}")
    else:
        print(WORKS, end="")


if __name__ == "__main__":
    _main()

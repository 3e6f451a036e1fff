"""What a validation needs, checked without changing anything. Loading this loads nothing that may be missing."""

from __future__ import annotations

import importlib
import importlib.util

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture import choice
from certbot_standalone_nfq.host import privileges
from certbot_standalone_nfq.settings import Settings


def check(settings: Settings) -> None:
    """Raise one of the package's errors if a validation cannot work here."""
    privileges.require_linux()
    privileges.require_capabilities()
    choice.require_any(settings)
    if not importlib.util.find_spec("scapy"):
        raise errors.package_unusable("scapy", "it is not installed")


def load_scapy() -> None:
    """Load the one package that may be broken, so that its failure gets an error of its own. Raises errors.Error."""
    try:
        importlib.import_module("certbot_standalone_nfq.wire.layers")
    except (Exception, SystemExit) as error:
        errors.raise_interruption(error)
        raise errors.package_unusable("scapy", f"{type(error).__name__}: {error}") from error

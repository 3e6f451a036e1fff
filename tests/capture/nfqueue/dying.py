"""What a watchdog sees of the death of its process, while the process goes on."""

from __future__ import annotations

import os

from certbot_standalone_nfq.capture.nfqueue.watchdog import Watchdog


def pretend_to_die(watchdog: Watchdog) -> None:
    """Close the watchdog's pipe, and have it dismissed later as if it were open."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, watchdog.pipe, inheritable=False)
    os.close(null)

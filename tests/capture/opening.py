"""Opening a capture as the session does."""

from __future__ import annotations

import contextlib
from typing import Any
from unittest import mock

from certbot_standalone_nfq.capture import choice
from certbot_standalone_nfq.capture.nfqueue.capture import NfqueueCapture
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.host import tracking
from certbot_standalone_nfq.host.firewall.reader import take_snapshot
from certbot_standalone_nfq.settings import Settings


def open_capture(port: int = 80, **settings: Any) -> NfqueueCapture:
    """Capture http-01's requests by a queue, in the network namespace that this thread is in."""
    held = contextlib.ExitStack()
    with mock.patch.object(tracking, "in_use", return_value=True):  # so nothing speaks for a way without a queue
        capture = choice.open_capture(Settings(**settings), Http01Solver.selectors(port), take_snapshot(), held)
    assert isinstance(capture, NfqueueCapture)
    return capture

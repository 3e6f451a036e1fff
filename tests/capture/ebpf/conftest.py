"""What tests of programs need before they begin."""

from __future__ import annotations

import pytest

from certbot_standalone_nfq.capture.ebpf.memory import may_lock_more


@pytest.fixture(scope="session", autouse=True)
def _memory() -> None:
    """Allow the memory that programs and maps are counted by before Linux 5.11."""
    may_lock_more()

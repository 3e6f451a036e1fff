from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.nfqueue.clients import open_queue
from lab.hosts import Host


@pytest.fixture(autouse=True)
def inside(lonely_host: Host) -> Iterator[None]:
    with lonely_host.inside():
        yield


def test_an_fnfqueue_that_cannot_be_loaded_is_missed_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: "there")
    monkeypatch.setitem(sys.modules, "certbot_standalone_nfq.capture.nfqueue.fnfqueue_client", None)
    with pytest.raises(errors.NotInstalled, match=r"cannot load the Python package fnfqueue: ModuleNotFoundError"):
        open_queue(28080, "fnfqueue")
    open_queue(28080, "auto").close()


def test_fnfqueue_is_missed_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(errors.NotInstalled, match="not installed"):
        open_queue(28080, "fnfqueue")
    open_queue(28080, "auto").close()

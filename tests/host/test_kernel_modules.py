"""The files that distributions have, laid out in a folder: the kernel at hand has everything built in, and no lists."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from certbot_standalone_nfq.host import kernel_modules
from certbot_standalone_nfq.host.kernel_modules import (
    BPF,
    CONNMARK,
    CONNTRACK,
    NFQUEUE_TARGET,
    QUEUE,
    Feature,
    Presence,
    inventory,
)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    folder = tmp_path / "lib" / "modules" / os.uname().release
    write(folder / "modules.builtin", "kernel/net/netfilter/nfnetlink_queue.ko\n")
    net = "kernel/net/netfilter"
    write(folder / "modules.dep", f"{net}/xt_NFQUEUE.ko.xz: {net}/x_tables.ko.xz\n{net}/xt-bpf.ko.zst:\n")
    write(tmp_path / "proc" / "modules", "xt_conntrack 16384 1 - Live 0x0000000000000000\n")
    write(tmp_path / "boot" / f"config-{os.uname().release}", "CONFIG_NETFILTER_XT_CONNMARK=m\n")
    return tmp_path


def test_a_module_is_built_in_or_loaded_or_available_or_not_found(debian: Path) -> None:
    found = inventory(debian)
    assert found.presence(QUEUE) is Presence.BUILT_IN
    assert found.presence(CONNTRACK) is Presence.LOADED
    assert found.presence(NFQUEUE_TARGET) is Presence.AVAILABLE
    assert found.presence(BPF) is Presence.AVAILABLE
    assert found.presence(CONNMARK) is Presence.NOT_FOUND, "it was configured as a module, and is not installed"


def test_without_lists_the_configuration_tells_what_is_built_in_and_what_cannot_be(tmp_path: Path) -> None:
    options = ["CONFIG_NETFILTER_NETLINK_QUEUE=y", "CONFIG_NETFILTER_XT_MATCH_BPF=m"]
    options += ["# CONFIG_NETFILTER_XT_CONNMARK is not set"]
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "config.gz").write_bytes(gzip.compress("\n".join(options).encode()))
    found = inventory(tmp_path)
    assert found.presence(QUEUE) is Presence.BUILT_IN
    assert found.presence(BPF) is Presence.UNKNOWN, "as in a container, whose host may have it"
    assert found.presence(CONNMARK) is Presence.NOT_FOUND


def test_where_nothing_is_shown_nothing_is_known(tmp_path: Path) -> None:
    found = inventory(tmp_path)
    assert {found.presence(feature) for feature in (NFQUEUE_TARGET, CONNTRACK, BPF, CONNMARK)} == {Presence.UNKNOWN}


def test_a_damaged_configuration_is_none(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "config.gz").write_bytes(gzip.compress(b"CONFIG_NETFILTER_NETLINK_QUEUE=y" * 99)[:-30])
    assert inventory(tmp_path).options == {}


def test_what_would_load_is_told_from_what_is_ready_and_what_never_is() -> None:
    assert [presence for presence in Presence if presence.ready] == [Presence.BUILT_IN, Presence.LOADED]
    assert [presence for presence in Presence if presence.would_load] == [Presence.AVAILABLE, Presence.UNKNOWN]


def test_features_that_cannot_be_loaded_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Feature("nothing", "no_such_module_anywhere", "CONFIG_NOTHING")
    kernel_modules.load(missing)
    monkeypatch.setattr(kernel_modules, "find_program", lambda name: f"/no/such/{name}")
    kernel_modules.load(missing)
    monkeypatch.setattr(kernel_modules, "find_program", lambda _: None)
    kernel_modules.load(missing)


def test_each_module_is_one_feature_with_one_name() -> None:
    table = [feature for feature in vars(kernel_modules).values() if isinstance(feature, Feature)]
    for parts in zip(*((feature.name, feature.module, feature.option) for feature in table)):
        assert len(set(parts)) == len(table)

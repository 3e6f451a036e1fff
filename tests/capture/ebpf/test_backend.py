"""Whether capturing by eBPF is possible, and what is said if not."""

from __future__ import annotations

import contextlib
import errno
import resource
import subprocess
import sys

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.ebpf import system
from certbot_standalone_nfq.capture.ebpf.backend import EbpfBackend
from certbot_standalone_nfq.challenges.http01.solver import Http01Solver
from certbot_standalone_nfq.engine.protocols import Field, Selector
from lab.ebpf import attached
from lab.hosts import Host
from lab.processes import UNMEASURED

pytestmark = pytest.mark.root
_OPEN = """
import contextlib
from certbot_standalone_nfq.capture.ebpf.backend import EbpfBackend
from certbot_standalone_nfq.challenges.{folder}.solver import {solver}
from certbot_standalone_nfq.errors import Error
try:
    EbpfBackend().open({solver}.selectors(80), contextlib.ExitStack()).close()
except Error as error:
    print(error)
else:
    print("It works.")
"""
SOLVERS = [("http01", "Http01Solver"), ("tls_alpn01", "TlsAlpn01Solver")]


def opened_with(host: Host, capabilities: str, folder: str, solver: str) -> str:
    """Open a capture in a process that has no other capabilities; return what it says."""
    names = [f"+{name}" for name in capabilities.split()]
    limits = ("setpriv", *(f"--{each}={','.join(['-all', *names])}" for each in ("bounding-set", "inh-caps")))
    program = _OPEN.format(folder=folder, solver=solver)
    # Before Linux 5.11, they also have to be allowed the memory, which CAP_SYS_RESOURCE would be for.
    command = host.command(
        "sh", "-c", 'ulimit -l unlimited; exec "$@"', "sh", *limits, *UNMEASURED, sys.executable, "-c", program
    )
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("folder", "solver"), SOLVERS)
def test_three_capabilities_are_enough(lonely_host: Host, folder: str, solver: str) -> None:
    assert opened_with(lonely_host, "net_admin net_raw bpf", folder, solver) == "It works.\n"


def test_without_cap_bpf_it_is_told_that_it_is_missing(lonely_host: Host) -> None:
    said = opened_with(lonely_host, "net_admin net_raw", *SOLVERS[0])
    assert said.startswith("This process may not use eBPF: it has no CAP_BPF. Give it CAP_BPF beside")


def test_a_capture_is_attached_to_all_interfaces_and_leaves_none_behind(lonely_host: Host) -> None:
    before = attached(lonely_host)
    with lonely_host.inside():
        capture = EbpfBackend().open(Http01Solver.selectors(80), contextlib.ExitStack())
    assert {line.split()[0] for line in attached(lonely_host)} >= {"lo"}
    with lonely_host.inside():
        capture.close()
        capture.close()
    assert attached(lonely_host) == before == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSYS, "older than Linux 5.8, or lacks CONFIG_BPF_SYSCALL"),
        (errno.EINVAL, "older than Linux 5.8, or lacks CONFIG_BPF_SYSCALL"),
        (errno.ENOMEM, "Packets cannot be captured by eBPF: Cannot allocate memory."),
        (errno.EPERM, "The kernel does not permit eBPF here."),
    ],
)
def test_what_the_kernel_refuses_is_told_in_words(
    lonely_host: Host, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, "refused")

    monkeypatch.setattr(system, "call", refuse)
    limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        with lonely_host.inside(), pytest.raises(errors.CaptureUnavailable, match=words):
            EbpfBackend().open(Http01Solver.selectors(80), contextlib.ExitStack())
        refused = EbpfBackend().unsupported()
        assert refused
        assert words in refused.cause
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)


def test_a_program_that_the_verifier_rejects_is_told_with_its_last_words(
    lonely_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = system.load_program
    monkeypatch.setattr(system, "load_program", lambda code, name: load(code[:-8], name))
    with lonely_host.inside(), pytest.raises(errors.CaptureUnavailable, match="This kernel rejects the eBPF program"):
        EbpfBackend().open(Http01Solver.selectors(80), contextlib.ExitStack())
    assert attached(lonely_host) == []


def test_selectors_that_no_program_can_be_made_of_are_refused(lonely_host: Host) -> None:
    selector = Selector(80, ((Field(0, bytes(65)),),), after_proxy_header=False)
    with lonely_host.inside(), pytest.raises(errors.CaptureUnavailable, match="longer than 64 bytes"):
        EbpfBackend().open([selector], contextlib.ExitStack())

"""Why the kernel refuses eBPF, for the user."""

from __future__ import annotations

import errno
import logging
import os
import resource

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.ebpf.system import Rejected
from certbot_standalone_nfq.host import privileges

logger = logging.getLogger(__name__)

_LOG_LINES = 20
_MISSING = (errno.ENOSYS, errno.EINVAL)
"""What kernels say that lack the system call, or a type of map: rings came with Linux 5.8."""
_OTHER_CURE = "Leave the choice of a way to capture to the plugin, or choose another one."


def explained(error: OSError) -> errors.Error:
    """Return the error that explains what bpf(2) refused."""
    if isinstance(error, Rejected):
        return _rejected(error)
    if error.errno in (errno.EPERM, errno.EACCES):
        return _not_permitted()
    if error.errno in _MISSING:
        return errors.CaptureUnavailable(
            "This kernel cannot capture packets by eBPF: it is older than Linux 5.8, or lacks CONFIG_BPF_SYSCALL, "
            "CONFIG_NET_CLS_BPF or CONFIG_NET_SCH_INGRESS.",
            _OTHER_CURE,
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    return errors.CaptureUnavailable(f"Packets cannot be captured by eBPF: {reason}.", _OTHER_CURE)


def not_selectable(reason: ValueError) -> errors.Error:
    """Return the error for selectors that programs cannot be made of."""
    return errors.CaptureUnavailable(f"The eBPF program cannot select these challenges: {reason}.", _OTHER_CURE)


def _rejected(error: Rejected) -> errors.Error:
    for line in error.log.splitlines()[-_LOG_LINES:]:
        logger.debug("The kernel's verifier: %s", line)
    last = next((line for line in reversed(error.log.splitlines()) if not line.startswith("processed")), "no reason")
    return errors.CaptureUnavailable(
        f"This kernel rejects the eBPF program: {os.strerror(error.errno or 0)}, {last}.",
        f"{_OTHER_CURE} Please report this, with Certbot's log, which has the verifier's last lines.",
    )


def _not_permitted() -> errors.Error:
    if not privileges.may_use_ebpf():
        return errors.CaptureUnavailable(
            "This process may not use eBPF: it has no CAP_BPF.",
            "Give it CAP_BPF beside CAP_NET_ADMIN and CAP_NET_RAW, or choose another way to capture.",
        )
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = "" if soft == resource.RLIM_INFINITY else f", or {soft} bytes of locked memory are too few"
    return errors.CaptureUnavailable(
        "The kernel does not permit eBPF here. Perhaps a filter of system calls forbids it (a container's seccomp"
        f" profile, a systemd unit's SystemCallFilter), or this is a user namespace of its own{limit}.",
        "Allow the system call bpf, raise LimitMEMLOCK of the unit or 'ulimit -l', or choose another way to capture.",
    )

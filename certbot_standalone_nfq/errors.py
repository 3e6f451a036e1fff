"""What can go wrong, as errors for the user: a sentence that says what, and one that says what to do about it.

Errors that some code catches are classes; functions make the others. authenticator.py turns them into Certbot's.
"""

from __future__ import annotations

import enum
import errno
import os


class Place(enum.Enum):
    """Where Certbot runs, if what to do depends on it."""

    MACHINE = "a machine"
    CONTAINER = "a container"
    WSL1 = "WSL 1"
    WSL2 = "WSL 2"


class Error(Exception):
    """Something that the user has to know: what is wrong (cause), and what to do about it (cure), a sentence each."""

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(cause, cure)
        self.cause = cause
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.cause} {self.cure}"


interruptions: list[type[Exception]] = []
"""Classes of exceptions that mean that the program is to end. Certbot's is added where Certbot is known."""


def raise_interruption(error: BaseException) -> None:
    """Raise an exception again if it means that the program is to end.

    Certbot's SignalExit does. It is an ordinary Exception that may be raised at any point of the main thread, and says
    nothing about the code that it interrupts. So every handler of all exceptions calls this first.
    """
    if isinstance(error, tuple(interruptions)):
        try:
            raise error
        finally:
            del error  # or its traceback would hold this frame, and this frame it: all that was open would stay so


NO_THREAD = "can't start new thread"
"""What Python says then."""
_MORE_PROCESSES = "Allow Certbot more processes: TasksMax of a systemd unit, a container's pids limit, or 'ulimit -u'."
_SYSTEM_CURES = {
    os.strerror(errno.EMFILE): "Allow Certbot more open files: LimitNOFILE of a systemd unit, or 'ulimit -n'.",
    os.strerror(errno.ENFILE): "Allow more open files on this machine, with the sysctl fs.file-max.",
    os.strerror(errno.EAGAIN): _MORE_PROCESSES,
    NO_THREAD: _MORE_PROCESSES,
    os.strerror(errno.ENOMEM): "Give Certbot more memory: MemoryMax of a systemd unit, or the container's limit.",
    os.strerror(errno.ENOBUFS): "Give Certbot more memory: MemoryMax of a systemd unit, or the container's limit.",
    os.strerror(errno.EROFS): (
        "Allow writing to /run, with ReadWritePaths of a systemd unit for example, or use "
        "--standalone-nfq-capture=iptables-nft or nftables, which write no lock file."
    ),
}
"""What to do, by the words that the C library has for an error, and programs repeat."""


class NotPermitted(Error):
    """This process may not do what it takes."""


class NotInstalled(Error):
    """A program or a package is missing or broken."""


class ResourceInUse(Error):
    """Another program has what is needed."""


class BadOption(Error):
    """What the user chose by an option cannot be used."""


class CaptureUnavailable(Error):
    """One way to capture cannot work here; another may."""


class NoFirewallTool(NotInstalled):
    """There is no program to add rules with."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(
            f"The standalone-nfq plugin found no program {program} in PATH or the sbin directories.",
            f"Install your distribution's {package} package.",
        )


class KernelSupportMissing(Error):
    """The kernel lacks something that the rules or the queue need."""

    def __init__(self, feature: str, module: str, option: str, place: Place = Place.MACHINE) -> None:
        super().__init__(
            f"This kernel has no {feature}: module {module}, kernel option {option}.", _kernel_cure(module, place)
        )


class FirewallRefused(Error):
    """The firewall tool failed for a reason of its own."""

    def __init__(self, program: str, reason: str) -> None:
        self.reason = reason
        self.said = f"{program}: {reason}."  # the tool's own words
        super().__init__(
            f"{program} could not add the rules for the challenge, and nothing was changed: {reason}.",
            _system_cure(reason)
            or "See Certbot's log for details, or choose another tool with --standalone-nfq-capture: iptables-nft, "
            "iptables-legacy or nftables.",
        )


class FirewallLockDenied(NotPermitted):
    """This user may not take the firewall's lock."""

    def __init__(self, program: str) -> None:
        super().__init__(
            f"{program} may not open /run/xtables.lock, which belongs to root.",
            "Run Certbot as root, or use --standalone-nfq-capture=iptables-nft, which needs no lock.",
        )


class MarksInUse(ResourceInUse):
    """Other rules use all mark bits that there are to choose from, most likely because they have no mask."""

    def __init__(self, rule: str) -> None:
        super().__init__(
            f"Other firewall rules use every mark bit that this plugin tries: {rule}.",
            "Give these rules a mask, such as 0xff, or choose two free bits with --standalone-nfq-mark.",
        )


def not_linux(system: str) -> Error:
    """Return the error for another operating system."""
    return Error(
        f"The standalone-nfq plugin needs Linux netfilter, which {system} does not have.",
        "Use another authenticator here, such as webroot, or run Certbot on Linux.",
    )


def wsl1() -> Error:
    """Return the error for a Linux that has no Linux kernel."""
    return Error(
        "The standalone-nfq plugin needs Linux netfilter, which WSL 1 does not have.",
        "Convert to WSL 2 with 'wsl --set-version', or use another authenticator, such as webroot.",
    )


def not_privileged(missing: str) -> NotPermitted:
    """Return the error for a user without some capabilities, named in words."""
    return NotPermitted(
        f"The standalone-nfq plugin cannot add firewall rules without {missing}.",
        "Run Certbot as root, or with both CAP_NET_ADMIN and CAP_NET_RAW.",
    )


def may_not_watch() -> NotPermitted:
    """Return the error for a process that may not look at packets."""
    return NotPermitted("This process cannot watch connections without CAP_NET_RAW.", "Run it as root.")


def root_confined(missing: str, place: Place = Place.MACHINE) -> NotPermitted:
    """Return the error for a root without some capabilities, named in words."""
    if place is Place.CONTAINER:
        cure = "Start the container with --cap-add=NET_ADMIN --cap-add=NET_RAW, or run Certbot on its host."
    else:
        cure = "Start Certbot without the restriction that removes it, such as CapabilityBoundingSet in a systemd unit."
    return NotPermitted(
        f"The standalone-nfq plugin cannot add firewall rules without {missing}, which root lacks here.", cure
    )


def foreign_network() -> NotPermitted:
    """Return the error for a process whose user namespace does not own its network namespace."""
    return NotPermitted(
        "This process is root only inside a user namespace that does not own the network namespace, as in a rootless "
        "container with host networking.",
        "Run Certbot as root outside that container.",
    )


def socket_refused(kind: str, reason: str) -> NotPermitted:
    """Return the error for a socket that is refused though no capability is missing."""
    return NotPermitted(
        f"This process may not open a {kind} socket although it has the capabilities: {reason}.",
        "Allow it where Certbot is started: RestrictAddressFamilies and SystemCallFilter of a systemd unit, the "
        "seccomp profile of a container, or the policy of SELinux or AppArmor.",
    )


def firewall_locked(program: str, seconds: int) -> ResourceInUse:
    """Return the error for a firewall's lock that another program holds."""
    return ResourceInUse(
        f"{program} waited {seconds} seconds for the xtables lock, which another program holds.",
        "Find that program with 'fuser /run/xtables.lock', then try again.",
    )


def firewall_hangs(program: str, seconds: float) -> Error:
    """Return the error for a firewall tool that does not end."""
    return Error(
        f"{program} did not end within {seconds:g} seconds.",
        "Run it by hand to see what blocks it, then try again.",
    )


def no_free_queue(reason: str) -> ResourceInUse:
    """Return the error for as many runs at once as there are marks for."""
    return ResourceInUse(
        f"No packet queue with free mark bits was found: {reason}",
        "Wait until other runs of this plugin have ended, or choose with --standalone-nfq-queue-num and "
        "--standalone-nfq-mark.",
    )


def mark_in_use(mark: int, rule: str) -> BadOption:
    """Return the error for mark bits that were asked for and that another rule uses."""
    return BadOption(
        f"Another firewall rule uses the bits {mark:#x} of the packet or connection mark: {rule}.",
        "Choose two free bits with --standalone-nfq-mark.",
    )


def queue_in_use(queue: int) -> BadOption:
    """Return the error for a queue number that was asked for and that is not free."""
    return BadOption(
        f"Queue number {queue} is in use by another program or firewall rule.",
        "Choose a free one with --standalone-nfq-queue-num, or omit the option.",
    )


def invalid_option(option: str, value: object, wanted: str) -> BadOption:
    """Return the error for a value that an option cannot have."""
    return BadOption(f"--standalone-nfq-{option} cannot be {value}.", f"Give {wanted}.")


def queue_client_missing() -> NotInstalled:
    """Return the error for an fnfqueue package that was asked for and is not there."""
    return NotInstalled(
        "The Python package fnfqueue, asked for with --standalone-nfq-queue-client, is not installed.",
        "Install certbot-standalone-nfq[fnfqueue], or omit the option.",
    )


def package_unusable(package: str, reason: str) -> NotInstalled:
    """Return the error for a Python package that is missing or broken."""
    return NotInstalled(
        f"The standalone-nfq plugin cannot load the Python package {package}: {reason}.",
        f"Reinstall {package} into Certbot's Python environment, the same way Certbot was installed.",
    )


def system_refused(reason: str) -> Error:
    """Return the error for a request that the operating system did not grant, given its words."""
    return Error(
        f"The operating system refused what a validation needs: {reason}.",
        _system_cure(reason) or "See Certbot's log for what it was.",
    )


def not_inherited() -> NotPermitted:
    """Return the error for a process whose capabilities the programs that it starts do not get."""
    return NotPermitted(
        "Certbot has the capabilities that it needs, but the firewall programs that it starts do not get them.",
        "Run Certbot as root, or with CAP_NET_ADMIN and CAP_NET_RAW as ambient capabilities: AmbientCapabilities in a "
        "systemd unit.",
    )


def unexpected(error: Exception) -> Error:
    """Return the error for an exception that nobody thought of."""
    return Error(
        f"Unexpected error while checking this machine: {type(error).__name__}: {error}.",
        "Report it, please, with the traceback from Certbot's log.",
    )


def _system_cure(reason: str) -> str:
    """Return what to do if the operating system refused something in these words; empty if there is no advice."""
    return next((cure for words, cure in _SYSTEM_CURES.items() if words in reason), "")


def _kernel_cure(module: str, place: Place) -> str:
    if place is Place.CONTAINER:
        return f"Load it on the container host with 'modprobe {module}', or boot that host with a kernel that has it."
    if place is Place.WSL2:
        return (
            "Update the WSL kernel from Windows with 'wsl --update' and 'wsl --shutdown', or name a kernel that has it "
            "in .wslconfig."
        )
    return f"Load it with 'modprobe {module}', or boot your distribution's own kernel with all its modules installed."

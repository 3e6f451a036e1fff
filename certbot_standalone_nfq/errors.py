"""What can go wrong, as Certbot's errors: one sentence of cause, one of cure."""

from __future__ import annotations

import enum

from certbot import errors

Error = errors.Error
"""Whatever Certbot raises on purpose."""
SignalExit = errors.SignalExit
"""What Certbot raises, wherever the program is, when a signal is to end it: never to be taken for a failure."""


class Place(enum.Enum):
    """Where Certbot runs, as far as another place takes another cure."""

    MACHINE = "a machine"
    CONTAINER = "a container"
    WSL1 = "WSL 1"
    WSL2 = "WSL 2"


class NotLinux(errors.PluginError):
    """The operating system is another one."""

    def __init__(self, system: str) -> None:
        super().__init__(
            f"The standalone-nfq plugin takes packets from Linux's netfilter, which this system, {system}, has not. "
            "Use another authenticator here, such as webroot, or run Certbot on Linux."
        )


class NoPacketFilter(errors.PluginError):
    """There is no Linux kernel under this Linux."""

    def __init__(self) -> None:
        super().__init__(
            "The standalone-nfq plugin takes packets from Linux's netfilter, which WSL 1 has not. "
            "Use WSL 2, which 'wsl --set-version' converts to, or another authenticator, such as webroot."
        )


class NotPrivileged(errors.PluginError):
    """The process may not change the firewall or send forged packets."""

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"The standalone-nfq plugin cannot put rules into the firewall without {missing}. "
            "Run Certbot as root, or with both CAP_NET_ADMIN and CAP_NET_RAW."
        )


class RootConfined(errors.PluginError):
    """The process is root's, and may not do so all the same."""

    def __init__(self, missing: str, place: Place = Place.MACHINE) -> None:
        if place is Place.CONTAINER:
            cure = "Start the container with --cap-add=NET_ADMIN --cap-add=NET_RAW, or run Certbot on its host."
        else:
            cure = "Start Certbot without what takes that from root, such as a systemd unit's CapabilityBoundingSet."
        super().__init__(
            f"The standalone-nfq plugin cannot put rules into the firewall without {missing}, which root lacks here. "
            f"{cure}"
        )


class NetworkOfOthers(errors.PluginError):
    """The process has its capabilities in a user namespace that the network namespace does not belong to."""

    def __init__(self) -> None:
        super().__init__(
            "This process is root in a user namespace that has no power over its network, as in a rootless container "
            "that uses its host's. Run Certbot as root outside of that container."
        )


class SocketRefused(errors.PluginError):
    """Something other than a missing capability keeps the process from a socket."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(
            f"This process may not use a {kind} socket, though it has the capabilities: {reason}. "
            "Allow it where Certbot is started: in a systemd unit's RestrictAddressFamilies and SystemCallFilter, in a "
            "container's seccomp profile, or in the policy of SELinux or AppArmor."
        )


class NoFirewallTool(errors.NoInstallationError):
    """There is no program that the rules could be put into the kernel with."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(
            f"The standalone-nfq plugin found no program {program}, neither on PATH nor in the sbin folders. "
            f"Install your distribution's {package} package."
        )


class KernelSupportMissing(errors.PluginError):
    """The kernel lacks something that the rules or the queue need."""

    def __init__(self, feature: str, module: str, option: str, place: Place = Place.MACHINE) -> None:
        if place is Place.CONTAINER:
            cure = f"Load it on the container's host with 'modprobe {module}', or boot a kernel there that has it."
        elif place is Place.WSL2:
            cure = (
                "Update WSL's kernel from Windows with 'wsl --update' and 'wsl --shutdown', or name one that has it "
                "in .wslconfig."
            )
        else:
            cure = (
                f"Load it with 'modprobe {module}', or boot your distribution's own kernel with all its modules "
                "installed."
            )
        super().__init__(f"This kernel has no {feature}: module {module}, kernel option {option}. {cure}")


class FirewallRefused(errors.PluginError):
    """The firewall tool failed for a reason of its own."""

    def __init__(self, program: str, reason: str) -> None:
        self.said = f"{program}: {reason}."
        super().__init__(
            f"{program} could not put the rules for the challenge in place: {reason}. "
            "Nothing was changed; Certbot's log has the details, and "
            "--standalone-nfq-firewall chooses another tool: iptables-nft, iptables-legacy or nftables."
        )


class FirewallLocked(errors.PluginError):
    """Another program holds the firewall's lock."""

    def __init__(self, program: str, seconds: int) -> None:
        super().__init__(
            f"{program} waited {seconds} seconds for another program to release the xtables lock, and gave up. "
            "Find the one that holds it with 'fuser /run/xtables.lock', then try again."
        )


class FirewallHangs(errors.PluginError):
    """The firewall tool does not end."""

    def __init__(self, program: str, seconds: float) -> None:
        super().__init__(
            f"{program} did not end within {seconds:g} seconds. "
            "Find out what holds it up by running it by hand, then try again."
        )


class FirewallLockDenied(errors.PluginError):
    """This user may not take the firewall's lock."""

    def __init__(self, program: str) -> None:
        super().__init__(
            f"{program} may not open /run/xtables.lock, which is root's. "
            "Run Certbot as root, or use --standalone-nfq-firewall=iptables-nft, which needs no lock."
        )


class MarkInUse(errors.MisconfigurationError):
    """Another rule uses the mark's bits."""

    def __init__(self, mark: int, rule: str) -> None:
        super().__init__(
            f"The bits {mark:#x} of the packet and connection mark are in use by another firewall rule: {rule}. "
            "Choose two bits that are free with --standalone-nfq-mark."
        )


class QueueInUse(errors.MisconfigurationError):
    """The queue number that was asked for belongs to another program."""

    def __init__(self, queue: int) -> None:
        super().__init__(
            f"Queue number {queue} is in use by another program or firewall rule. "
            "Choose a free one with --standalone-nfq-queue-num, or leave the option away."
        )


class MarksInUse(errors.PluginError):
    """Other rules use all bits of the marks that there are to choose from, most likely by having no mask."""

    def __init__(self, rule: str) -> None:
        super().__init__(
            f"All bits of the packet and connection mark that could be used are in use by other rules: {rule}. "
            "Give these a mask, such as 0xff, or choose two bits that are free with --standalone-nfq-mark."
        )


class NoFreeQueue(errors.PluginError):
    """As many runs as there are marks for are under way."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"No packet queue with free mark bits was found: {reason}. "
            "Wait until other runs of this plugin have ended, or choose with --standalone-nfq-queue-num and "
            "--standalone-nfq-mark."
        )


class InvalidOption(errors.MisconfigurationError):
    """An option's value cannot be used."""

    def __init__(self, option: str, value: object, wanted: str) -> None:
        super().__init__(f"--standalone-nfq-{option} cannot be {value}. Give {wanted}.")


class QueueClientMissing(errors.NoInstallationError):
    """The fnfqueue package was asked for and is not there."""

    def __init__(self) -> None:
        super().__init__(
            "The Python package fnfqueue, asked for with --standalone-nfq-queue-client, is not installed. "
            "Install certbot-standalone-nfq[fnfqueue], or leave the option away."
        )


class PackageUnusable(errors.NoInstallationError):
    """A Python package that the plugin needs is missing or broken."""

    def __init__(self, package: str, reason: str) -> None:
        super().__init__(
            f"The Python package {package}, which the standalone-nfq plugin needs, cannot be loaded: {reason}. "
            f"Install {package} anew next to Certbot, from where Certbot itself is from."
        )


class Unforeseen(errors.PluginError):
    """Something happened that should not."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"The standalone-nfq plugin cannot tell whether it works here: {type(error).__name__}: {error}. "
            "Look into Certbot's log for where this comes from, and report it."
        )

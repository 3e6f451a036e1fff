"""Certbot's side of the plugin.

Certbot imports this module whenever it starts, whatever it is asked to do. So nothing is imported here that it has
not loaded already; scapy and what needs it come in when challenges are performed.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acme import challenges
from certbot import achallenges, interfaces
from certbot.plugins import common

from certbot_standalone_nfq import errors

if TYPE_CHECKING:
    from certbot_standalone_nfq.diagnosis.problem import Problem
    from certbot_standalone_nfq.session.listener import FallbackListener
    from certbot_standalone_nfq.session.loop import Interception
    from certbot_standalone_nfq.session.witness import Witness
    from certbot_standalone_nfq.settings import Settings

logger = logging.getLogger(__name__)


def _number(text: str) -> int:
    """Read a number in decimal, or in hexadecimal after 0x."""
    return int(text, 0)


_number.__name__ = "number"  # argparse names the type so in its error messages


class Authenticator(common.Plugin, interfaces.Authenticator):
    """Answers http-01 challenges out of the packet stream, past any web server on the port."""

    description = (
        "Answers http-01 challenges from the packet stream while any web server keeps the port. "
        "HTTP challenge only (wildcards not supported)."
    )

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self._interception: Interception | None = None
        self._witness: Witness | None = None
        self._fallback_listener: FallbackListener | None = None
        self._pending: set[str] = set()

    @classmethod
    def add_parser_arguments(cls, add: Callable[..., None]) -> None:
        """Add the options. None is ever needed."""
        add(
            "firewall",
            default="auto",
            choices=["auto", "iptables", "iptables-nft", "iptables-legacy", "nftables"],
            help="Program to put the firewall rules in place with (default: the first of these that works)",
        )
        add(
            "queue-num",
            type=_number,
            metavar="NUMBER",
            help="NFQUEUE number to use (default: the first free one of 28080 to 28083)",
        )
        add(
            "mark",
            type=_number,
            metavar="MASK",
            help="Two bits of the packet and connection mark (default: 0x30000000, or others if a rule uses these)",
        )
        add(
            "queue-client",
            default="auto",
            choices=["auto", "netlink", "fnfqueue"],
            help="What to receive packets with (default: the fnfqueue package if installed, else the built-in client)",
        )
        add(
            "selection",
            default="auto",
            choices=["auto", "prefilter", "port", "stateless-port"],
            help="Which packets to look at (default: the first of these that the kernel can do): those that a "
            "prefilter in the kernel picks, all of the port, or all of the port without connection tracking",
        )
        add(
            "pcap",
            metavar="FILE",
            help="File to write the validation's packets to, for Wireshark or tcpdump (default: none)",
        )
        add(
            "no-evidence",
            action="store_true",
            help="Do not look at connections to the port from outside, which explain a failure (default: look)",
        )

    def more_info(self) -> str:
        """Say what the plugin does, for users choosing one."""
        return (
            "This plugin takes the certificate authority's http-01 requests out of the packet stream and answers "
            f"them itself, while whatever web server has TCP port {self.config.http01_port} keeps running "
            "unchanged. Until the validation is over, a few firewall rules lead those requests, and nothing else, to "
            "Certbot."
        )

    def prepare(self) -> None:
        """Check what can be checked without changing anything; Certbot calls this for listings, too."""
        try:
            self._check()
        except errors.Error:
            raise
        except Exception as error:  # any other would keep Certbot from listing and preparing other plugins
            raise errors.Unforeseen(error) from error

    def get_chall_pref(self, identifier: str) -> Iterable[type[challenges.Challenge]]:
        """Return the one type of challenge that is answered, for names and addresses alike."""
        return [challenges.HTTP01]

    def perform(self, achalls: list[achallenges.AnnotatedChallenge]) -> list[challenges.ChallengeResponse]:
        """Answer the challenges from now until `cleanup`. Raises one of the package's errors."""
        interception = self._interception or self._intercept()
        responses = []
        for achall in achalls:
            response, key_authorization = achall.response_and_validation()
            token = _token(achall)
            if self._witness:
                self._witness.expect(token, _name(achall))
            if self._fallback_listener:
                self._fallback_listener.answer(achall.chall, response, key_authorization)
            interception.answer(token, key_authorization)
            self._pending.add(token)
            responses.append(response)
        return responses

    def cleanup(self, achalls: list[achallenges.AnnotatedChallenge]) -> None:
        """Leave further requests to the web server, and give the machine back after the last challenge."""
        for achall in achalls:
            token = _token(achall)
            self._pending.discard(token)
            if self._interception:
                self._interception.withdraw(token)
        if self._pending or not self._interception:
            return
        interception, self._interception = self._interception, None
        if self._fallback_listener:
            self._fallback_listener.stop()
        try:
            interception.stop()
        except errors.Error as error:
            logger.warning(
                "The firewall rules could not be removed. This is tried again when Certbot ends, and by the next run; "
                "until then they let packets pass. %s",
                getattr(error, "said", error),
            )
        if self._witness:
            self._sum_up(self._witness)

    def auth_hint(self, failed_achalls: list[achallenges.AnnotatedChallenge]) -> str:
        """Say what did and did not arrive here of each failed challenge."""
        try:
            from certbot_standalone_nfq.session.witness import Failure, Witness

            witness = self._witness or Witness(self.config.http01_port, observe=False)
            return witness.hint([Failure(_name(achall), _token(achall), _problem(achall)) for achall in failed_achalls])
        except errors.SignalExit:
            raise
        except Exception as error:  # Certbot has yet to print what the authority said
            logger.debug("The failure could not be explained: %s", error, exc_info=True)
            return "What arrived at this machine could not be told; Certbot's log says why."

    def _check(self) -> None:
        from certbot_standalone_nfq.capture import choice
        from certbot_standalone_nfq.host import privileges

        settings = self._settings()
        privileges.require_linux()
        privileges.require_capabilities()
        next(iter(choice.available(settings.firewall)))
        if not importlib.util.find_spec("scapy"):
            raise errors.PackageUnusable("scapy", "it is not installed")

    def _intercept(self) -> Interception:
        _load_scapy()
        from certbot_standalone_nfq.session.listener import FallbackListener
        from certbot_standalone_nfq.session.loop import Interception
        from certbot_standalone_nfq.session.witness import Witness

        settings = self._settings()
        capture = Path(self.conf("pcap")) if self.conf("pcap") else None
        witness = Witness(settings.port, observe=not self.conf("no-evidence"), capture=capture)
        try:
            record = witness.recording.add if witness.recording else None
            self._interception = Interception(settings, witness.tell, record)
        except BaseException:
            self._sum_up(witness)
            raise
        self._witness = witness
        self._fallback_listener = FallbackListener(settings.port, self.config.http01_address or "")
        return self._interception

    def _sum_up(self, witness: Witness) -> None:
        try:
            witness.stop()
        except Exception as error:  # the certificate does not depend on it
            logger.debug("The evidence could not be summed up: %s", error, exc_info=True)

    def _settings(self) -> Settings:
        """Return what the options say. Raises errors.InvalidOption."""
        from certbot_standalone_nfq.capture.nfqueue.allocation import Marks
        from certbot_standalone_nfq.settings import Settings

        queue, mark = self.conf("queue-num"), self.conf("mark")
        if queue is not None and not 0 <= queue <= 0xFFFF:
            raise errors.InvalidOption("queue-num", queue, "a number from 0 to 65535")
        try:
            if mark is not None:
                Marks.from_mask(mark)
        except ValueError as error:
            raise errors.InvalidOption(
                "mark", hex(mark), "a mask of exactly two of 32 bits, like 0x30000000"
            ) from error
        return Settings(
            port=self.config.http01_port,
            queue=queue,
            mark=mark,
            firewall=self.conf("firewall"),
            queue_client=self.conf("queue-client"),
            selection=self.conf("selection"),
        )


def _load_scapy() -> None:
    """Load the one package that may be damaged or unfit, so that its failure is known for that."""
    from certbot_standalone_nfq.host import privileges

    try:
        importlib.import_module("scapy.layers.inet6")
    except errors.SignalExit:
        raise
    except (Exception, SystemExit) as error:
        # It looks at the interfaces as it is loaded.
        refusal = privileges.refusal("netlink", error) if isinstance(error, OSError) else None
        raise (refusal or errors.PackageUnusable("scapy", f"{type(error).__name__}: {error}")) from error


def _token(achall: achallenges.AnnotatedChallenge) -> str:
    return str(achall.chall.encode("token"))


def _problem(achall: achallenges.AnnotatedChallenge) -> Problem:
    """Return what the authority said of a failed challenge."""
    from certbot_standalone_nfq.diagnosis.problem import Problem

    error = getattr(achall.challb, "error", None)
    if not error:
        return Problem()
    return Problem(str(error.typ or "").rpartition(":")[2], str(error.detail or ""))


def _name(achall: achallenges.AnnotatedChallenge) -> str:
    identifier = getattr(achall, "identifier", None)  # since Certbot 5.3
    return str(identifier.value if identifier else achall.domain)

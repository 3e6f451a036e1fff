"""Certbot's side of the plugin.

Certbot imports this module whenever it starts, whatever it is asked to do. So nothing is imported here that it has
not loaded already; scapy and what needs it come in when challenges are performed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from acme import challenges
from certbot import achallenges, interfaces
from certbot import errors as certbot_errors
from certbot.plugins import common

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.settings import OPTIONS, Settings

if TYPE_CHECKING:
    from certbot_standalone_nfq.diagnosis.problem import Problem
    from certbot_standalone_nfq.session.interception import Interception
    from certbot_standalone_nfq.session.listener import FallbackListener
    from certbot_standalone_nfq.session.witness import Witness

logger = logging.getLogger(__name__)

errors.add_interruption(certbot_errors.SignalExit)
_CERTBOTS: dict[type[errors.Error], type[certbot_errors.PluginError]] = {
    errors.BadOption: certbot_errors.MisconfigurationError,
    errors.NotInstalled: certbot_errors.NoInstallationError,
}


@contextlib.contextmanager
def _as_certbots_errors() -> Iterator[None]:
    """Turn the package's errors into those that Certbot takes from a plugin."""
    try:
        yield
    except errors.Error as error:
        theirs = next((theirs for ours, theirs in _CERTBOTS.items() if isinstance(error, ours)), None)
        raise (theirs or certbot_errors.PluginError)(str(error)) from error


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
        for option in OPTIONS:
            add(option.name, **option.arguments())

    def more_info(self) -> str:
        """Say what the plugin does, for users choosing one."""
        return (
            "This plugin takes the certificate authority's http-01 requests out of the packet stream and answers "
            f"them itself, while whatever web server has TCP port {self.config.http01_port} keeps running "
            "unchanged. Until the validation is over, a few firewall rules lead those requests, and nothing else, to "
            "Certbot."
        )

    @_as_certbots_errors()
    def prepare(self) -> None:
        """Check what can be checked without changing anything; Certbot calls this for listings, too."""
        try:
            self._check()
        except errors.Error:
            raise
        except Exception as error:  # any other would keep Certbot from listing and preparing other plugins
            errors.raise_interruption(error)
            raise errors.unexpected(error) from error

    def get_chall_pref(self, identifier: str) -> Iterable[type[challenges.Challenge]]:
        """Return the one type of challenge that is answered, for names and addresses alike."""
        return [challenges.HTTP01]

    @_as_certbots_errors()
    def perform(self, achalls: list[achallenges.AnnotatedChallenge]) -> list[challenges.ChallengeResponse]:
        """Answer the challenges from now until `cleanup`. Raises Certbot's PluginError."""
        interception = self._interception or self._intercept()
        responses = []
        for achall in achalls:
            response, key_authorization = achall.response_and_validation()
            token = _token(achall)
            if self._witness:
                self._witness.expect(token, _name(achall))
            if self._fallback_listener:
                self._fallback_listener.answer(achall.chall, response, key_authorization)
            interception.answer(achall.chall.typ, token, key_authorization)
            self._pending.add(token)
            responses.append(response)
        return responses

    def cleanup(self, achalls: list[achallenges.AnnotatedChallenge]) -> None:
        """Leave further requests to the web server, and give the machine back after the last challenge."""
        for achall in achalls:
            token = _token(achall)
            self._pending.discard(token)
            if self._interception:
                self._interception.withdraw(achall.chall.typ, token)
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
        except Exception as error:  # Certbot has yet to print what the CA said
            errors.raise_interruption(error)
            logger.debug("The failure could not be explained: %s", error, exc_info=True)
            return "The failure could not be analysed; see Certbot's log."

    def _check(self) -> None:
        from certbot_standalone_nfq.capture import choice
        from certbot_standalone_nfq.host import privileges

        settings = self._settings()
        privileges.require_linux()
        privileges.require_capabilities()
        choice.require_any(settings)
        if not importlib.util.find_spec("scapy"):
            raise errors.package_unusable("scapy", "it is not installed")

    def _intercept(self) -> Interception:
        _load_scapy()
        from certbot_standalone_nfq.session.interception import Interception
        from certbot_standalone_nfq.session.listener import FallbackListener
        from certbot_standalone_nfq.session.witness import Witness

        settings = self._settings()
        witness = Witness(settings.port, observe=settings.evidence, capture=settings.pcap)
        try:
            record = witness.recording.add if witness.recording else None
            self._interception = Interception(settings, witness.tell, record)
        except BaseException:
            self._sum_up(witness)
            raise
        self._witness = witness
        self._fallback_listener = FallbackListener(settings.port, settings.address)
        return self._interception

    def _sum_up(self, witness: Witness) -> None:
        try:
            witness.stop()
        except Exception as error:  # the certificate does not depend on it
            errors.raise_interruption(error)
            logger.debug("The evidence could not be summed up: %s", error, exc_info=True)

    def _settings(self) -> Settings:
        """Return what the options say. Raises errors.BadOption."""
        return Settings.chosen(self.config.http01_port, self.config.http01_address, self.conf)


def _load_scapy() -> None:
    """Load the one package that may be damaged or unfit, so that its failure is known for that."""
    from certbot_standalone_nfq.host import privileges

    try:
        importlib.import_module("scapy.layers.inet6")
    except (Exception, SystemExit) as error:
        errors.raise_interruption(error)
        # It looks at the interfaces as it is loaded.
        refusal = privileges.refusal("netlink", error) if isinstance(error, OSError) else None
        raise (refusal or errors.package_unusable("scapy", f"{type(error).__name__}: {error}")) from error


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

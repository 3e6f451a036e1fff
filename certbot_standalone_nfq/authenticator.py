"""Certbot's side of the plugin.

Certbot imports this module whenever it starts, whatever it is asked to do. So nothing is imported here that it has
not loaded already; scapy and what needs it come in when challenges are performed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from acme import challenges
from certbot import achallenges, interfaces
from certbot import errors as certbot_errors
from certbot.plugins import common

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.settings import DEFAULT_PORTS, DNS_01, OPTIONS, TLS_ALPN_01, Settings

if TYPE_CHECKING:
    from certbot_standalone_nfq.diagnosis.report import Failure
    from certbot_standalone_nfq.engine.protocols import ChallengeId
    from certbot_standalone_nfq.session.session import Session

logger = logging.getLogger(__name__)

errors.interruptions.append(certbot_errors.SignalExit)
_CERTBOTS: dict[type[errors.Error], type[certbot_errors.PluginError]] = {
    errors.BadOption: certbot_errors.MisconfigurationError,
    errors.NotInstalled: certbot_errors.NoInstallationError,
}


def _register_tls_alpn_01() -> None:
    """Have Certbot know a type that acme has had from 1.21 to 4.2, unless acme or another plugin has registered it."""
    if "tls-alpn-01" in challenges.Challenge.TYPES:
        return

    class Response(challenges.KeyAuthorizationChallengeResponse):
        typ = "tls-alpn-01"

    @challenges.Challenge.register
    class TLSALPN01(challenges.KeyAuthorizationChallenge):
        """The challenge (RFC 8737). What answers it is made of the key authorization, by its solver."""

        response_cls = Response
        typ = "tls-alpn-01"

        def validation(self, account_key: Any, **_: Any) -> str:
            return str(self.key_authorization(account_key))


_register_tls_alpn_01()


@contextlib.contextmanager
def _as_certbots_errors() -> Iterator[None]:
    """Turn the package's errors into those that Certbot takes from a plugin."""
    try:
        yield
    except errors.Error as error:
        theirs = next((theirs for ours, theirs in _CERTBOTS.items() if isinstance(error, ours)), None)
        raise (theirs or certbot_errors.PluginError)(str(error)) from error


class Authenticator(common.Plugin, interfaces.Authenticator):
    """Answers challenges out of the packet stream, past any server on the port."""

    description = (
        "Answers http-01, tls-alpn-01 and dns-01 challenges from the packet stream while any server keeps the port "
        "(wildcards on the zone's own name server)."
    )

    def __init__(self, config: Any, name: str) -> None:
        super().__init__(config, name)
        self._session: Session | None = None
        """The last one, perhaps closed."""

    @classmethod
    def add_parser_arguments(cls, add: Callable[..., None]) -> None:
        """Add the options. None is ever needed."""
        for option in OPTIONS:
            add(option.name, **option.arguments())

    def more_info(self) -> str:
        """Say what the plugin does, for users choosing one."""
        return (
            "This plugin takes the CA's requests out of the packet stream and answers them itself, while whatever "
            f"server has the port keeps running unchanged: TCP port {self.config.http01_port} for http-01, "
            f"{self.conf('tls-alpn-01-port') or DEFAULT_PORTS[TLS_ALPN_01]} for tls-alpn-01 (with "
            f"--preferred-challenges tls-alpn-01), and port {self.conf('dns-01-port') or DEFAULT_PORTS[DNS_01]} for "
            "dns-01. Until the validation is over, a few firewall rules direct those requests, and nothing else, to "
            "Certbot."
        )

    @_as_certbots_errors()
    def prepare(self) -> None:
        """Check what can be checked without changing anything; Certbot calls this for listings, too."""
        try:
            from certbot_standalone_nfq.session import requirements

            requirements.check(self._settings())
        except errors.Error:
            raise
        except Exception as error:  # any other would keep Certbot from listing and preparing other plugins
            errors.raise_interruption(error)
            raise errors.unexpected(error) from error

    def get_chall_pref(self, identifier: str) -> Iterable[type[challenges.Challenge]]:
        """Return the types of challenge that are answered, for names and addresses alike, the preferred one first."""
        from certbot_standalone_nfq.challenges import registry

        return [challenges.Challenge.TYPES[solver.typ] for solver in registry.SOLVERS]

    @_as_certbots_errors()
    def perform(self, achalls: list[achallenges.AnnotatedChallenge]) -> list[challenges.ChallengeResponse]:
        """Answer the challenges from now until `cleanup`; all of them or none. Raises Certbot's PluginError."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.cleanup, achalls)
            session = self._open(list(map(_challenge, achalls)))
            for achall in achalls:
                session.add(_challenge(achall), _name(achall), _response(achall).key_authorization)
            undo.pop_all()
        return list(map(_response, achalls))

    def cleanup(self, achalls: list[achallenges.AnnotatedChallenge]) -> None:
        """Leave further requests to the web server, and release everything after the last challenge."""
        if not self._session:
            return
        with contextlib.ExitStack() as steps:  # the last one comes first; each is taken even if another fails
            steps.callback(self._close_if_idle)
            for achall in achalls:
                steps.callback(self._session.remove, _challenge(achall), _response(achall).key_authorization)

    def auth_hint(self, failed_achalls: list[achallenges.AnnotatedChallenge]) -> str:
        """Say what did and did not arrive here of each failed challenge."""
        try:
            session = self._session or self._new_session()
            return session.explain(list(map(_failure, failed_achalls)))
        except Exception as error:  # Certbot has yet to print what the CA said
            errors.raise_interruption(error)
            logger.debug("The failure could not be explained: %s", error, exc_info=True)
            return "The failure could not be analysed; see Certbot's log."

    def _open(self, challenges_: list[ChallengeId]) -> Session:
        """Return the session, open for challenges; a new one if need be."""
        if not (self._session and self._session.is_open):
            self._session = self._new_session()
        self._session.open(challenges_)
        return self._session

    def _new_session(self) -> Session:
        from certbot_standalone_nfq.session import requirements

        requirements.load_scapy()
        from certbot_standalone_nfq.session.session import Session

        return Session(self._settings())

    def _close_if_idle(self) -> None:
        if self._session and self._session.is_idle:
            self._session.close()

    def _settings(self) -> Settings:
        """Return what the options say. Raises errors.BadOption."""
        return Settings.chosen(self.config.http01_port, self.config.http01_address, self.conf)


def _challenge(achall: achallenges.AnnotatedChallenge) -> ChallengeId:
    from certbot_standalone_nfq.challenges import registry
    from certbot_standalone_nfq.engine.protocols import ChallengeId

    typ = achall.chall.typ
    return ChallengeId(typ, registry.solver(typ).key(_name(achall), str(achall.chall.encode("token"))))


def _response(achall: achallenges.AnnotatedChallenge) -> challenges.KeyAuthorizationChallengeResponse:
    response: challenges.KeyAuthorizationChallengeResponse = achall.response(achall.account_key)
    return response


def _name(achall: achallenges.AnnotatedChallenge) -> str:
    identifier = getattr(achall, "identifier", None)  # since Certbot 5.3
    return str(identifier.value if identifier else achall.domain)


def _failure(achall: achallenges.AnnotatedChallenge) -> Failure:
    """Return a failed challenge, with what the CA says about it."""
    from certbot_standalone_nfq.diagnosis.problem import Problem
    from certbot_standalone_nfq.diagnosis.report import Failure

    error = getattr(achall.challb, "error", None)
    problem = Problem(str(error.typ or "").rpartition(":")[2], str(error.detail or "")) if error else Problem()
    return Failure(_name(achall), _challenge(achall), problem)

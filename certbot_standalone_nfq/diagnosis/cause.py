"""What can be the matter."""

from __future__ import annotations

import enum

PAGE = "https://certbot-standalone-nfq.github.io/certbot-standalone-nfq/diagnosis/"
"""Where the documents say more about each cause: docs/diagnosis.md, as a page of the site."""


class Cause(enum.Enum):
    """What the evidence can tell apart."""

    NAME_TROUBLE = enum.auto()
    """The CA could not look the name up, or may not certify it."""
    UNACKNOWLEDGED = enum.auto()
    """Requests were answered, and no answer was acknowledged."""
    BEHIND_PROXY = enum.auto()
    """Requests were answered, and had come through a proxy."""
    OTHER_PERSPECTIVE = enum.auto()
    """Requests were answered and acknowledged; nothing else can be seen from here."""
    UNFINISHED = enum.auto()
    """Requests reached the plugin, and the dialogue did not come to its end."""
    ALTERED = enum.auto()
    """Requests reached this machine with something added to them."""
    OTHER_PROGRAM = enum.auto()
    """Requests reached this machine, and not the plugin."""
    REDIRECTED = enum.auto()
    """The CA was redirected by something other than this machine's server."""
    TLS_TERMINATED = enum.auto()
    """The CA was answered by TLS that does not know its protocol, and not at this machine."""
    NOT_TLS = enum.auto()
    """The CA was answered by HTTP without TLS, and not at this machine."""
    ANOTHER_ANSWERED = enum.auto()
    """The CA was answered by another TLS server or ACME client, and not at this machine."""
    NOT_THIS_MACHINE = enum.auto()
    """The CA connected to an address that this machine does not have."""
    REFUSED = enum.auto()
    """Connections were refused by this machine."""
    DROPPED = enum.auto()
    """This machine did not answer connection attempts."""
    RETURN_PATH = enum.auto()
    """This machine's answers to connection attempts did not arrive."""
    NO_REQUEST = enum.auto()
    """Connections were opened, and no request came over them."""
    ONE_FAMILY = enum.auto()
    """Connections arrive over one IP version, and none over the one that the CA used."""
    NOTHING = enum.auto()
    """No request came."""
    FORBIDDEN = enum.auto()
    """For dns-01, as all that follow: a CAA record forbids it."""
    NOT_BELIEVED = enum.auto()
    """Queries were answered, and the answers refused, as they are not signed."""
    OTHER_NAME_SERVER = enum.auto()
    """Queries were answered, and another name server answered otherwise."""
    OTHER_RESOLVER = enum.auto()
    """Queries were answered; nothing else can be seen from here."""
    QUERY_TAKEN = enum.auto()
    """Queries reached this machine, and not the plugin."""
    NO_QUERY = enum.auto()
    """No query for the answer came."""

    @property
    def address(self) -> str:
        """Where the documents say what shows it and what to do: the heading that has its name."""
        return f"{PAGE}#{self.name.lower()}"

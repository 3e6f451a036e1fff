"""Where a dns-01 challenge is looked up, and what of that the user has to know."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.host.command import Deadline
from certbot_standalone_nfq.host.dns import words
from certbot_standalone_nfq.host.dns.judgement import Judge, Lead
from certbot_standalone_nfq.host.dns.path import follow
from certbot_standalone_nfq.host.dns.questions import RESOLV_CONF, Questions, Unreadable, absolute
from certbot_standalone_nfq.host.dns.whereabouts import is_here

LABEL = "_acme-challenge"
SECONDS = 8.0
"""For all look-ups of all names."""
_SHARE = 0.25
"""Of the time, for one question: a resolver takes long to find out that a zone's name servers do not answer."""


def leads(names: Iterable[str], seconds: float = SECONDS, resolv_conf: str = RESOLV_CONF) -> dict[str, Lead]:
    """Follow the paths of all names' challenges, for so many seconds at most; a wildcard's is the plain name's."""
    plain = list(dict.fromkeys(name[2:] if name.startswith("*.") else name for name in names))
    found: queue.SimpleQueue[tuple[str, Lead]] = queue.SimpleQueue()
    for name in plain:
        arguments = (name, seconds, resolv_conf, found)
        threading.Thread(target=_put_lead, args=arguments, name="standalone-nfq-dns", daemon=True).start()
    deadline = Deadline(seconds + 0.5)  # a look-up ends a little after its own time
    done = {name: _unknown(name, "the look-ups did not end in time") for name in plain}
    with contextlib.suppress(queue.Empty):
        for _ in plain:
            name, lead = found.get(timeout=deadline.remaining())
            done[name] = lead
    return done


def _put_lead(name: str, seconds: float, resolv_conf: str, found: queue.SimpleQueue[tuple[str, Lead]]) -> None:
    try:
        found.put((name, lead(name, Questions(seconds, resolv_conf, _SHARE))))
    except Unreadable as error:
        found.put((name, _unknown(name, str(error))))
    except Exception as error:
        errors.raise_interruption(error)
        found.put((name, _unknown(name, repr(error))))


def _unknown(name: str, reason: str) -> Lead:
    owner = f"{LABEL}.{name}"
    return Lead(owner, warnings=(words.unknown(owner, reason),))


def lead(name: str, questions: Questions) -> Lead:
    """Follow the path of a name's challenge. Raises Unreadable."""
    challenge = absolute(f"{LABEL}.{name}")
    path = follow(challenge, questions, is_here)
    return Judge(path, absolute(name), questions).judge()

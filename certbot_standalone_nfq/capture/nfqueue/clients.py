"""The two clients of packet queues, and the choice between them."""

from __future__ import annotations

import contextlib
import importlib.util
import logging

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.nfqueue.netlink_client import NetlinkQueue
from certbot_standalone_nfq.capture.nfqueue.queue import FOR_CHALLENGES, FOR_WHOLE_PORT, Configuration, PacketQueue
from certbot_standalone_nfq.settings import AUTO

logger = logging.getLogger(__name__)


def open_queue(
    number: int,
    client: str = AUTO,
    configuration: Configuration = FOR_CHALLENGES,
    held: contextlib.ExitStack | None = None,
) -> PacketQueue:
    """Become a queue's listener. Raises QueueOccupied, or one of the package's errors.

    `held` closes the queue, even if an interruption comes before this returns.
    """
    held = held or contextlib.ExitStack()
    installed = importlib.util.find_spec("fnfqueue") is not None
    if client == "fnfqueue" and not installed:
        raise errors.queue_client_missing()
    # fnfqueue hands packets on from thread to thread, which a whole port's bystanders would have to wait for.
    prefer_netlink = client == AUTO and configuration is FOR_WHOLE_PORT
    if client == "netlink" or prefer_netlink or not installed:
        return _by_netlink(number, configuration, held)
    try:
        from certbot_standalone_nfq.capture.nfqueue.fnfqueue_client import FnfqueueQueue
    except (Exception, SystemExit) as error:  # whatever a damaged or unfit package raises
        errors.raise_interruption(error)
        reason = f"{type(error).__name__}: {error}"
        if client == "fnfqueue":
            raise errors.package_unusable("fnfqueue", reason) from error
        logger.debug("The fnfqueue package cannot be loaded, and is not used: %s", reason)
        return _by_netlink(number, configuration, held)
    return FnfqueueQueue(number, configuration, held)


def _by_netlink(number: int, configuration: Configuration, held: contextlib.ExitStack) -> NetlinkQueue:
    queue = NetlinkQueue(number, configuration)  # a socket that nothing refers to closes itself
    held.callback(queue.close)
    return queue

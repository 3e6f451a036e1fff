"""What the operating system refuses, as errors for the user."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from certbot_standalone_nfq import errors


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raise an error of the package's in place of what the operating system refuses: too few descriptors or threads."""
    try:
        yield
    except OSError as error:
        raise errors.system_refused(_words(error)) from error
    except MemoryError as error:
        raise errors.system_refused(os.strerror(errno.ENOMEM)) from error
    except RuntimeError as error:
        if str(error) != errors.NO_THREAD:
            raise
        raise errors.system_refused(errors.NO_THREAD) from error


def _words(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{reason}: {error.filename}" if error.filename else reason

"""Files that nobody else can read, written where others may have put something in their way.

A file is made anew under another name, and gets its own name once it is complete: what stood there before, perhaps
with another owner or another name, is not written to. On the way to its folder, no link of another user is followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_MAX_LINKS = 40
"""As the kernel follows: path_resolution(7)."""
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def check(path: Path) -> None:
    """Make sure that a file can be written; leave nothing behind. Raises OSError."""
    with _opened_folder(path) as folder, _temporary(path, folder):
        pass


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file, for its owner alone, in place of what has its name. Raises OSError; then that is as it was."""
    with _opened_folder(path) as folder, _temporary(path, folder) as (file, name):
        yield file
        file.flush()
        os.replace(name, path.name, src_dir_fd=folder, dst_dir_fd=folder)


@contextlib.contextmanager
def _temporary(path: Path, folder: int) -> Iterator[tuple[IO[bytes], str]]:
    _refuse_what_is_no_file(path, folder)
    name = f".{secrets.token_hex(8)}.tmp"
    with os.fdopen(os.open(name, _NEW, 0o600, dir_fd=folder), "wb") as file:
        try:
            yield file, name
        finally:
            with contextlib.suppress(FileNotFoundError):  # it has got its own name
                os.unlink(name, dir_fd=folder)


def _refuse_what_is_no_file(path: Path, folder: int) -> None:
    """Raise OSError if the name is that of a link, a device, a folder or the like, which must not be replaced."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))


@contextlib.contextmanager
def _opened_folder(path: Path) -> Iterator[int]:
    """Open the folder that a file is in. Raises OSError, which names the file."""
    try:
        folder = _open_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        yield folder
    finally:
        os.close(folder)


def _open_folder(path: Path) -> int:
    """Walk to a folder, step by step."""
    folder, steps, links = os.open(".", _FOLDER), list(path.parts), 0
    try:
        while steps:
            step = steps.pop(0)
            if _is_trusted_link(step, folder):
                links += 1
                steps[:0] = Path(os.readlink(step, dir_fd=folder)).parts
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                continue
            following = os.open(step, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = following
    except BaseException:
        os.close(folder)
        raise
    return folder


def _is_trusted_link(name: str, folder: int) -> bool:
    """Whether a name is that of a symbolic link of root's or our own. Raises OSError for another user's."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        return False
    if found.st_uid not in (0, os.geteuid()):
        raise OSError(errno.ELOOP, f"{name} is a symbolic link of another user's")
    return True

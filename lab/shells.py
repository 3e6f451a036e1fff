"""Interactive shells in a terminal, as somebody types who has put completions where each shell looks for them."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_READY = "ready> "
_PATIENCE = 30.0
"""Seconds for a shell's beginning, which may make a list of all of its functions."""
_BASH = """PS1='{ready}'
source {share}/bash-completion/completions/{program}
"""
_ZSH = """PROMPT='{ready}'
setopt no_auto_remove_slash
fpath=({share}/zsh/site-functions $fpath)
autoload -Uz compinit
compinit -u -D
"""
_FISH = """function fish_prompt
    echo -n '{ready}'
end
function fish_greeting
end
"""
_FILES = {"bash": ("bashrc", _BASH), "zsh": (".zshrc", _ZSH), "fish": ("fish/config.fish", _FISH)}
_OPTIONS = {"bash": ("--rcfile", "{home}/bashrc", "-i"), "zsh": ("-i",), "fish": ("-i",)}


def typed(shell: str, share: Path, program: str, keys: list[str], folder: Path) -> list[str]:
    """Type each of some beginnings behind a program's name, then Tab and Enter; return what arguments it was run with.

    The program is one that writes them down.
    """
    calls = folder / "calls"
    home = _home(shell, share, program, folder)
    _write(folder / "bin" / program, f'#!/bin/sh\necho "$*" >>{calls}\n').chmod(0o755)
    environment = {
        "HOME": str(home),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "TERM": "xterm",
        "XDG_CONFIG_HOME": str(home),
        "XDG_DATA_DIRS": f"{share}:/usr/share",
        "ZDOTDIR": str(home),
    }
    options = [option.format(home=home) for option in _OPTIONS[shell]]
    with _terminal([shell, *options], environment) as side:
        for number, beginning in enumerate(keys):
            _read_until(side, lambda shown: _READY in shown)
            os.write(side, f"{program} {beginning}\t\r".encode())
            _read_until(side, lambda _: len(_lines(calls)) > number)  # noqa: B023 - it is called before the next
            os.write(side, b"\r")
    return _lines(calls)


def _home(shell: str, share: Path, program: str, folder: Path) -> Path:
    name, text = _FILES[shell]
    _write(folder / "home" / name, text.format(ready=_READY, share=share, program=program))
    return folder / "home"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@contextlib.contextmanager
def _terminal(command: list[str], environment: dict[str, str]) -> Iterator[int]:
    """Run a shell in a terminal; yield its other side."""
    side, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *command], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    try:
        yield side
    finally:
        process.kill()
        process.wait()
        os.close(side)


def _read_until(side: int, condition: Callable[[str], bool]) -> None:
    """Read what is shown until a condition on it holds, or on what comes of it."""
    shown = ""
    deadline = time.monotonic() + _PATIENCE
    while not condition(shown):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the shell shows {shown!r}")
        if select.select([side], [], [], 0.05)[0]:
            shown += os.read(side, 4096).decode(errors="replace")

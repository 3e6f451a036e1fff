"""What the watchdog's shell does, for any POSIX shell and without programs but the firewall's and sleep."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from certbot_standalone_nfq.capture.nfqueue.removal import STEP_TRIES, Removal
from certbot_standalone_nfq.host.command import find_program

HOURS = 6
"""For how long it tries."""
_LONGEST_PAUSE = 32
"""Seconds. The pauses between two tries begin with one second and double."""

_SCRIPT = """\
trap '' HUP INT QUIT TERM PIPE
export LC_ALL=C
repeat() {{
    for _ in {tries}; do "$@" 2>/dev/null || return 0; done
}}
remove() {{
    left=0
{removals}
    return $left
}}
watch_for_stop() {{
    while [ -d /proc/$$ ] && {sleep} 1; do
        while read -r key state _; do [ "$key" = State: ] && break; done </proc/$PPID/status || return
        [ "$state" != T ] || remove
    done
}}
echo ready; exec >/dev/null
{beside}
read -r message && exit 0
pause=1 waited=0
until remove || [ $waited -ge {seconds} ]; do
    {sleep} $pause
    waited=$((waited + pause))
    [ $pause -ge {longest} ] || pause=$((pause * 2))
done
"""


def script(removals: Sequence[Removal], *, watch_for_stop: bool) -> str:
    """Return the shell's script. It ends when a line is read, or at the end of input when nothing is left.

    It may also watch whether its parent is stopped (SIGSTOP, Ctrl-Z), and remove the rules meanwhile.
    """
    return _SCRIPT.format(
        tries=" ".join(map(str, range(STEP_TRIES))),
        removals="\n".join(map(_lines, removals)),
        seconds=HOURS * 3600,
        sleep=shlex.quote(find_program("sleep") or "sleep"),
        longest=_LONGEST_PAUSE,
        beside='watch_for_stop </dev/null & trap "kill -KILL $!" EXIT' if watch_for_stop else "",
    )


def _lines(removal: Removal) -> str:
    """Return the commands of a removal. They set `left` unless it is proven that nothing is left."""
    transaction = shlex.join(removal.transaction)
    patterns = "|".join(f"*{shlex.quote(phrase)}*" for phrase in removal.absent)
    steps = [f"repeat {shlex.join(step)}" for step in removal.steps]
    proofs = [
        f'said=$({shlex.join(proof)} 2>&1) || case "$said" in {patterns}) ;; *) left=1 ;; esac'
        for proof in removal.proofs
    ]
    return "\n".join([f"{transaction} <<'END' || {{", f"{removal.script}END", *steps, *proofs, "}"])

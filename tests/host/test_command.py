from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from certbot_standalone_nfq.host.command import Deadline, find_program, run

pytestmark = pytest.mark.anywhere

SHELL = "/bin/sh"


def shell(script: str, stdin: str = "", pass_fds: tuple[int, ...] = ()) -> tuple[int | None, str, str, str]:
    result = run([SHELL, "-c", script], seconds=20, stdin=stdin, pass_fds=pass_fds)
    return result.status, result.stdout, result.stderr, result.complaint


def test_output_errors_and_status_are_returned() -> None:
    assert shell("echo out; echo err >&2") == (0, "out\n", "err\n", "")
    assert shell("echo it broke >&2; echo twice >&2; exit 3") == (3, "", "it broke\ntwice\n", "it broke twice")
    assert shell("exit 3")[3] == "exit status 3"


def test_bytes_that_are_no_text_become_escapes() -> None:
    """As in a comment of somebody's rule, written in Latin-1."""
    assert shell(r"printf 'caf\351'; printf '\377' >&2") == (0, r"caf\xe9", r"\xff", "")


def test_a_program_speaks_the_language_of_the_c_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("OTHER", "kept")
    assert shell('echo "$LC_ALL $OTHER"')[1] == "C kept\n"


def test_input_is_what_is_given_and_nothing_else() -> None:
    assert shell("cat")[1] == ""
    assert shell("cat", stdin="rules\n")[1] == "rules\n"


def test_a_program_that_reads_no_input_is_no_error() -> None:
    assert shell("exec <&-; echo done", stdin="x" * (1 << 20))[:2] == (0, "done\n")


def test_only_the_descriptors_that_are_named_are_inherited() -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    script = f"test -e /proc/self/fd/{read}; echo $?; test -e /proc/self/fd/{write}; echo $?"
    assert shell(script, pass_fds=(write,))[1] == "1\n0\n"
    os.close(read)
    os.close(write)


class Stop(Exception):
    """As Certbot's SignalExit."""


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, Stop])
def test_a_program_has_ended_when_an_interruption_goes_on(tmp_path: Path, interruption: type[BaseException]) -> None:
    """What it does after its end has been assumed could not be undone."""

    def interrupt(*_: object) -> None:
        raise interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(interruption):
            run([SHELL, "-c", f"echo $$ > {tmp_path}/pid; exec tail -f /dev/null"], seconds=20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not Path(f"/proc/{int((tmp_path / 'pid').read_text())}").exists()


def test_a_program_that_does_not_end_is_ended(tmp_path: Path) -> None:
    begin = time.monotonic()
    result = run([SHELL, "-c", f"echo $$ > {tmp_path}/pid; exec tail -f /dev/null"], seconds=0.5)
    assert 0.5 <= time.monotonic() - begin < 20
    assert (result.status, result.timed_out) == (None, True)
    assert result.complaint == "it did not end within 0.5 seconds"
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_step_may_take_its_own_time_or_what_is_left() -> None:
    assert Deadline(100, step=1).for_step() == 1
    assert 1 < Deadline(2, step=100).for_step() <= 2
    assert 1 < Deadline(2).for_step() <= 2


def test_without_time_nothing_is_run(tmp_path: Path) -> None:
    result = run(["/usr/bin/touch", str(tmp_path / "trace")], seconds=Deadline(0).remaining())
    assert result.complaint == "there was no time left to run it"
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_cannot_be_started_is_a_result_too(tmp_path: Path) -> None:
    (tmp_path / "forbidden").write_text("")
    assert run([str(tmp_path / "missing")], seconds=5).complaint == "No such file or directory"
    result = run([str(tmp_path / "forbidden")], seconds=5)
    assert (result.status, result.timed_out, result.complaint) == (None, False, "Permission denied")


def test_a_program_is_found_on_path_before_the_sbin_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_program("no-such-program") is None
    python = Path(sys.executable)
    monkeypatch.setenv("PATH", str(python.parent))
    assert find_program(python.name) == str(python)


@pytest.mark.parametrize("folder", ["", ".", "bin"])
def test_a_folder_of_path_that_depends_on_where_we_are_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    trap = tmp_path / folder / "trap"
    trap.parent.mkdir(exist_ok=True)
    trap.write_text("#!/bin/sh\n")
    trap.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", folder)
    assert find_program("trap") is None
    monkeypatch.setenv("PATH", str(trap.parent))
    assert find_program("trap") == str(trap)

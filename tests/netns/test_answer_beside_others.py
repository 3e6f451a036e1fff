"""The program that answers any token, beside other runs, other programs and signals."""

from __future__ import annotations

import functools
import itertools
import signal
import subprocess

import pytest

from lab.answerer import OTHER_THUMBPRINT, THUMBPRINT, answerer, command
from lab.interceptor import EBPF, REMOVABLE, TOKEN, VARIANTS, interceptor_process
from lab.interceptor import KEY_AUTHORIZATION as OTHER_ANSWER
from lab.processes import wait_until
from tests.netns.conftest import Lab
from tests.netns.test_answer import ANSWER, ANY_TOKEN, NAME, NOT_FOUND, OTHER_NAME, asked
from tests.netns.test_lifecycle import helpers, is_clean


@pytest.mark.parametrize(
    ("variant", "other"),
    [*itertools.product(VARIANTS, [*VARIANTS, *EBPF]), *itertools.product(EBPF, [*EBPF, "auto"])],
)
def test_another_run_beside_it_wins_for_its_own_tokens_and_leaves_it_the_others(
    lab: Lab, variant: str, other: str
) -> None:
    before = lab.server.rules()
    with answerer(lab.server, NAME, arguments=("--thumbprint", OTHER_THUMBPRINT, "--capture", variant)):
        assert asked(lab, token=TOKEN) == f"{TOKEN}.{OTHER_THUMBPRINT}"
        with interceptor_process(lab.server, capture=other):
            for _ in range(3):
                assert asked(lab, token=TOKEN) == OTHER_ANSWER
                assert asked(lab) == f"{ANY_TOKEN}.{OTHER_THUMBPRINT}"
                assert asked(lab, OTHER_NAME) == NOT_FOUND
        assert asked(lab, token=TOKEN) == f"{TOKEN}.{OTHER_THUMBPRINT}"
    assert is_clean(lab.server, before)


@pytest.mark.anywhere
def test_two_processes_answer_for_different_names(lab: Lab) -> None:
    with answerer(lab.server, NAME), answerer(lab.server, OTHER_NAME, arguments=("--thumbprint", OTHER_THUMBPRINT)):
        for _ in range(3):
            assert asked(lab) == ANSWER
            assert asked(lab, OTHER_NAME) == f"{ANY_TOKEN}.{OTHER_THUMBPRINT}"
            assert asked(lab, "third.example") == NOT_FOUND


@pytest.mark.anywhere
def test_a_second_process_for_a_name_is_refused_until_the_first_is_killed(lab: Lab) -> None:
    second = command(lab.server, "-d", "new.example", "-d", NAME.upper(), "--thumbprint", THUMBPRINT)
    with answerer(lab.server, NAME) as first:
        finished = subprocess.run(second, check=False, capture_output=True, text=True, timeout=60)
        assert finished.returncode == 1
        assert f"(process {first.process.pid}) answers for {NAME} on port 80 already." in finished.stderr
        assert asked(lab, "new.example") == NOT_FOUND
        first.process.kill()
        first.process.wait()
        with answerer(lab.server, NAME):
            assert asked(lab) == ANSWER


@pytest.mark.firewall
@pytest.mark.parametrize("variant", [*VARIANTS, *EBPF])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_leaves_nothing(lab: Lab, variant: str, number: signal.Signals) -> None:
    before, others = lab.server.rules(), helpers(lab.server)
    with answerer(lab.server, NAME, arguments=("--thumbprint", THUMBPRINT, "--capture", variant)) as running:
        assert asked(lab) == ANSWER
        running.process.send_signal(number)
        assert running.process.wait(30) == (-number if number is signal.SIGKILL else 0)
        wait_until(lambda: is_clean(lab.server, before), "the rules are gone")
    wait_until(lambda: not helpers(lab.server) - others, "the watchdog is gone")
    assert asked(lab) == NOT_FOUND


@pytest.mark.parametrize("variant", [each for each in REMOVABLE if each != "iptables-legacy"])
def test_rules_are_put_back_however_often_another_program_removes_them(lab: Lab, variant: str) -> None:
    """The kernel tells of it. It does not of those by the legacy variant, and half a minute is too long here."""
    table = "nft delete table inet $(nft list tables | grep -o certbot.*)"
    flush = table if variant == "nftables" else "iptables-nft -t mangle -F; ip6tables-nft -t mangle -F INPUT"
    with answerer(lab.server, NAME, arguments=("--thumbprint", THUMBPRINT, "--capture", variant)) as running:
        for _ in range(3):
            lab.server.run("sh", "-c", flush)
            for address in (lab.server.ipv4, lab.server.ipv6):
                wait_until(functools.partial(is_answered, lab, address), "the rules are there again")
        running.wait_for("they were added again")
        assert sum("they were added again" in line for line in running.lines) == 1


def is_answered(lab: Lab, address: str) -> bool:
    return asked(lab, address=address) == ANSWER

from __future__ import annotations

import subprocess
import sys

import pytest

from certbot_standalone_nfq.host import privileges

REPORT = "from certbot_standalone_nfq.host import privileges; print(privileges.missing_capabilities())"


def missing(*setpriv: str) -> str:
    command = ["setpriv", *setpriv, sys.executable, "-c", REPORT]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.root
def test_root_lacks_nothing() -> None:
    assert privileges.missing_capabilities() == []


@pytest.mark.root
def test_root_in_a_container_may_lack_either_capability() -> None:
    assert missing("--bounding-set=-net_admin") == "['CAP_NET_ADMIN']"
    assert missing("--bounding-set=-net_raw") == "['CAP_NET_RAW']"


@pytest.mark.root
def test_another_user_lacks_both_unless_given_them() -> None:
    def as_nobody(capabilities: str) -> str:
        # One more than meant, as the user might not be allowed to read this folder.
        capabilities += "+dac_read_search"
        powers = (f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}")
        return missing("--reuid=65534", "--clear-groups", *powers)

    assert as_nobody("") == "['CAP_NET_ADMIN', 'CAP_NET_RAW']"
    assert as_nobody("+net_admin,+net_raw,") == "[]"


@pytest.mark.root
def test_root_may_make_namespaces_unless_a_container_forbids_it() -> None:
    report = REPORT.replace("missing_capabilities", "may_make_namespaces")
    assert privileges.may_make_namespaces()
    command = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", report]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "False\n"

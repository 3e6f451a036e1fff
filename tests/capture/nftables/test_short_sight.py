"""Rules where nft cannot look far into packets: a program plays nft on Linux 6.12 and earlier."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from certbot_standalone_nfq.capture.nfqueue.allocation import Allocation, Marks, RunId
from certbot_standalone_nfq.capture.nftables.backend import NftablesWriter
from certbot_standalone_nfq.engine.protocols import Field, Selector

RUN = RunId(28080, "0f1e")
MARKS = Marks(0x10000000, 0x20000000)
LOOKS_255_BYTES_FAR = f"""#!{sys.executable}
import re, sys
for line in iter(sys.stdin.readline, ""):
    if any(int(bits) > 255 * 8 for bits in re.findall("@[a-z]+,([0-9]+),", line)):
        print("Error: Could not process rule: Numerical result out of range")
    elif line.startswith("describe"):
        print("payload expression", flush=True)
    elif line.startswith("delete"):
        open(sys.argv[0] + ".taken", "w").close()
    else:
        open(sys.argv[0] + ".taken", "a").write(line)
"""


@pytest.fixture
def taken(empty_path: Path) -> Path:
    """The commands that nft has taken and not undone."""
    nft = empty_path / "nft"
    nft.write_text(LOOKS_255_BYTES_FAR)
    nft.chmod(0o755)
    return empty_path / "nft.taken"


@pytest.mark.parametrize("beginning", [b"\x16\x03", b"\x16"])
def test_where_a_search_reaches_too_far_whatever_begins_right_is_queued(
    taken: Path, caplog: pytest.LogCaptureFixture, beginning: bytes
) -> None:
    caplog.set_level(logging.INFO)
    searching = Selector(443, ((Field(0, beginning),),), contains=b"acme-tls/1")
    writer = NftablesWriter()
    writer.install(Allocation((searching,), RUN, MARKS), hold_open=0)
    assert f"@ih,0,{8 * len(beginning)} 0x{beginning.hex()} goto found" in taken.read_text()
    assert "one packet of each visitor is queued" in caplog.text
    writer.remove(RUN, 443)


def test_rules_that_search_for_nothing_are_added_as_they_are(taken: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    writer = NftablesWriter()
    writer.install(Allocation((Selector(80, ((Field(0, b"GET "),),)),), RUN, MARKS), hold_open=0)
    assert "goto found" in taken.read_text()
    assert caplog.text == ""
    writer.remove(RUN, 80)

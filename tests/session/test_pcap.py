"""The capture file, which root may write in a folder of everybody's."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.utils import rdpcap

from certbot_standalone_nfq.session.pcap import Recording
from certbot_standalone_nfq.wire.tcp import write
from tests.engine.peer import Peer

pytestmark = pytest.mark.anywhere

NOBODY = 65534
PACKET = write(Peer().segment(b"secret"))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder like /tmp."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.fixture(autouse=True)
def generous_mask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def record(path: Path) -> None:
    recording = Recording(path)
    recording.add(PACKET, 1.0)
    recording.write()


def assert_is_ours_alone(path: Path) -> None:
    found = path.lstat()
    assert stat.S_ISREG(found.st_mode)
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_nlink) == (0o600, os.geteuid(), 1)
    assert [bytes(packet) for packet in rdpcap(str(path))] == [PACKET]
    assert os.listdir(path.parent) == [path.name] or path.parent.name == "home"


def test_a_new_file_is_ours_alone(shared: Path) -> None:
    record(shared / "file.pcap")
    assert_is_ours_alone(shared / "file.pcap")


def test_a_file_that_everybody_can_read_becomes_ours_alone(shared: Path) -> None:
    file = shared / "file.pcap"
    file.write_bytes(b"x" * 10_000)
    file.chmod(0o666)
    with file.open("rb") as stranger:
        record(file)
        assert stranger.read() == b"x" * 10_000
    assert_is_ours_alone(file)


def test_a_file_of_another_users_becomes_ours_alone(shared: Path) -> None:
    file = shared / "file.pcap"
    file.write_bytes(b"")
    os.chown(file, NOBODY, NOBODY)
    record(file)
    assert_is_ours_alone(file)


def test_a_files_other_names_keep_what_it_held(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    os.link(tmp_path / "precious", shared / "file.pcap")
    record(shared / "file.pcap")
    assert (tmp_path / "precious").read_text() == "precious"
    assert_is_ours_alone(shared / "file.pcap")


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder", "device"])
def test_what_is_no_file_is_refused_and_left_as_it_is(shared: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "precious").write_text("precious")
    path = shared / "file.pcap"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    else:
        path.symlink_to(tmp_path / ("precious" if kind == "link" else "not there"))
    before = path.lstat()
    with pytest.raises(OSError, match="not a regular file") as raised:
        Recording(path)
    assert raised.value.filename == str(path)
    assert path.lstat() == before
    assert (tmp_path / "precious").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["precious", "shared"]
    assert os.listdir(shared) == ["file.pcap"]


def test_what_comes_to_stand_in_the_way_later_is_replaced_or_refused(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    recording = Recording(shared / "file.pcap")
    (shared / "file.pcap").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="not a regular file"):
        recording.write()
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("deep", [False, True])
def test_another_users_link_to_a_folder_is_not_followed(shared: Path, tmp_path: Path, deep: bool) -> None:
    (tmp_path / "precious").mkdir()
    link = shared / "link"
    link.symlink_to(tmp_path / "precious")
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    path = link / "file.pcap"
    if deep:
        (tmp_path / "ours").symlink_to(link)
        path = tmp_path / "ours" / "file.pcap"
    with pytest.raises(OSError, match="another user's"):
        Recording(path)
    assert not os.listdir(tmp_path / "precious")


def test_our_own_links_to_a_folder_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "absolute").symlink_to(tmp_path / "home")
    (tmp_path / "home" / "relative").symlink_to("../absolute")
    record(tmp_path / "home" / "relative" / "file.pcap")
    assert_is_ours_alone(tmp_path / "home" / "file.pcap")
    monkeypatch.chdir(tmp_path)
    record(Path("home/file.pcap"))
    assert_is_ours_alone(tmp_path / "home" / "file.pcap")


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="circle"):
        Recording(tmp_path / "circle" / "file.pcap")


def test_a_disk_that_is_full_leaves_the_file_as_it_was(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shared / "file.pcap"
    record(file)
    recording = Recording(file)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("certbot_standalone_nfq.session.pcap.RawPcapWriter.write_packet", full)
    recording.add(PACKET)
    with pytest.raises(OSError, match="No space"):
        recording.write()
    assert_is_ours_alone(file)

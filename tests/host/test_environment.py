"""Where a process runs, told from files laid out as each place has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.errors import Place
from certbot_standalone_nfq.host import environment, kernel_modules, privileges

pytestmark = pytest.mark.anywhere

OWN_KERNEL = "6.1.0-28-amd64\n"
WSL1_KERNEL = "4.4.0-19041-Microsoft\n"
WSL2_KERNEL = "5.15.167.4-microsoft-standard-WSL2\n"


def machine(root: Path, release: str = OWN_KERNEL, **files: str) -> Path:
    """Lay out a machine's files; in their names, two underscores stand for a slash."""
    for name, content in {"proc__sys__kernel__osrelease": release, **files}.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


@pytest.mark.parametrize(
    ("release", "place"), [(OWN_KERNEL, Place.MACHINE), (WSL1_KERNEL, Place.WSL1), (WSL2_KERNEL, Place.WSL2)]
)
def test_the_kernel_tells_a_machine_from_wsl(tmp_path: Path, release: str, place: Place) -> None:
    assert environment.place(machine(tmp_path, release)) is place


@pytest.mark.parametrize(
    "mark",
    [
        {".dockerenv": ""},
        {"run__.containerenv": 'engine="podman-5.4.2"\n'},
        {"run__systemd__container": "systemd-nspawn"},
        {"proc__1__environ": "PATH=/usr/bin\0container=lxc\0"},
    ],
    ids=lambda mark: next(iter(mark)),
)
def test_a_container_is_known_by_its_managers_mark(tmp_path: Path, mark: dict[str, str]) -> None:
    assert environment.place(machine(tmp_path, **mark)) is Place.CONTAINER


def test_a_container_on_wsl_has_wsls_kernel(tmp_path: Path) -> None:
    assert environment.place(machine(tmp_path, WSL2_KERNEL, **{".dockerenv": ""})) is Place.WSL2
    assert environment.in_container(tmp_path)


def test_another_programs_container_variable_is_no_mark(tmp_path: Path) -> None:
    variables = {"proc__1__environ": "not_a_container=lxc\0"}
    assert environment.place(machine(tmp_path, **variables)) is Place.MACHINE


def test_where_proc_is_not_shown_it_is_a_machine(tmp_path: Path) -> None:
    assert environment.place(tmp_path) is Place.MACHINE


def at(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    monkeypatch.setattr(environment, "place", lambda: place)


@pytest.mark.parametrize(
    ("place", "cure"),
    [
        (Place.MACHINE, "Load it with 'modprobe nfnetlink_queue', or boot your distribution's own kernel"),
        (
            Place.CONTAINER,
            "Load it on the container host with 'modprobe nfnetlink_queue', or boot that host with a kernel",
        ),
        (Place.WSL2, "Update the WSL kernel from Windows with 'wsl --update' and 'wsl --shutdown', or name a kernel"),
    ],
)
def test_what_the_kernel_lacks_is_cured_where_the_kernel_is_from(
    monkeypatch: pytest.MonkeyPatch, place: Place, cure: str
) -> None:
    at(monkeypatch, place)
    lacking = kernel_modules.lack(kernel_modules.QUEUE)
    assert str(lacking).startswith("This kernel has no packet queue for user space: module nfnetlink_queue")
    assert f". {cure}" in str(lacking)


def test_wsl_1_cannot_do_it_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, Place.WSL1)
    with pytest.raises(errors.Error, match=r"which WSL 1 does not have\. Convert to WSL 2"):
        privileges.require_linux()


@pytest.mark.parametrize("system", ["darwin", "freebsd14"])
def test_another_operating_system_cannot_either(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(environment, "system", lambda: system)
    with pytest.raises(errors.Error, match=rf"which {system} does not have\. Use another authenticator here"):
        privileges.require_linux()


def test_linux_can() -> None:
    privileges.require_linux()

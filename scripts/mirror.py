"""Where this machine gets its own Debian packages from."""

from __future__ import annotations

from lab.processes import run

_EVERYBODYS = {
    "Debian": "http://deb.debian.org/debian",
    "Debian-Security": "http://deb.debian.org/debian-security",
}


def mirror(label: str = "Debian") -> str:
    """Return where apt has an archive from, which is known by the label in its index; if none, where everybody does."""
    query = ("--format", "$(REPO_URI)", "Identifier: Packages", "Origin: Debian", f"Label: {label}")
    addresses = run(["apt-get", "indextargets", *query]).split()
    return next((address for address in addresses if address.startswith("http")), _EVERYBODYS[label])

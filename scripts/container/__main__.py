"""Build the image, get certificates in containers of it, say what came of it; fail if any of that fails."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

import scripts.container
from lab import hosts
from lab.certbot import Certbot
from lab.interceptor import EBPF, VARIANTS
from lab.load import load
from lab.nginx import nginx
from lab.pebble import pebble
from scripts.container import image, runtime
from scripts.distros.rootfs import workshop

_SOURCE = Path(__file__).parents[2]
_NAME = "example.com"
_RENEW = ("renew", "--force-renewal", "--no-random-sleep-on-renew")
_LOOK = """
grep -E '^(Cap|NoNewPrivs)' /proc/self/status
! (: >/proc/sys/net/ipv4/ip_forward) 2>/dev/null && echo '/proc/sys cannot be written to'
! command -v modprobe cc gcc clang && echo 'no modprobe, no compiler'
mount -t tmpfs tmpfs /mnt 2>/dev/null || echo 'nothing can be mounted'
"""


@dataclass
class ContainedCertbot(Certbot):
    """Certbot in a new container of an image each time; the folder stands for the disk that volumes are on."""

    image: image.Image
    asked: runtime.DockerRun

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs certbot with these arguments."""
        settings = self.folder / "etc/letsencrypt"
        settings.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.authority.certificate, settings / "authority.pem")
        trusted = ("REQUESTS_CA_BUNDLE=/etc/letsencrypt/authority.pem",)
        return self.host.command(*self.asked.command(self.image, self.folder, trusted, *arguments, "--non-interactive"))

    def with_capability(self, name: str) -> ContainedCertbot:
        """Return the same with `--cap-add NAME`."""
        asked = dataclasses.replace(self.asked, capabilities=(*self.asked.capabilities, name))
        return dataclasses.replace(self, asked=asked)

    def look(self) -> str:
        """Return what a shell sees in such a container."""
        shell = image.Image(self.image.root, ("/bin/sh", "-c", _LOOK))
        return self.host.run(*self.asked.command(shell, self.folder, ()))

    def certificate(self, name: str) -> Path:
        """Return where the newest certificate of a lineage is."""
        return self.folder / "etc/letsencrypt/live" / name / "cert.pem"

    def serial_number(self) -> int:
        """Return the newest certificate's."""
        return x509.load_pem_x509_certificate(self.certificate(_NAME).read_bytes()).serial_number


def _succeed(result: subprocess.CompletedProcess[str]) -> None:
    if result.returncode:
        raise RuntimeError(f"status {result.returncode}\n{result.stdout}")


def _issue(certbot: ContainedCertbot) -> None:
    """Get a certificate as docs/container.md says, by each way to capture in turn, and renew it."""
    for way in VARIANTS:
        _issue_by(certbot, way)
    for way in EBPF:
        _issue_by(certbot.with_capability("BPF"), way)


def _issue_by(certbot: ContainedCertbot, way: str) -> None:
    begin = time.monotonic()
    options = (*certbot.account(), f"--standalone-nfq-capture={way}", "--force-renewal")
    _succeed(certbot.run(*certbot.asked.arguments, *options))
    first = certbot.serial_number()
    _succeed(certbot.run(*_RENEW))
    second = certbot.serial_number()
    if first == second:
        raise RuntimeError(f"by {way}: not renewed")
    print(f"by {way}: issued {first:x}, renewed {second:x}, {time.monotonic() - begin:.0f} seconds", flush=True)


def _try(built: image.Image, folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        client, server = stack.enter_context(hosts.pair())
        web_server = stack.enter_context(nginx(server, folder / "nginx"))
        authority = stack.enter_context(pebble(client, folder / "pebble"))
        authority.resolve(_NAME, ipv4=server.ipv4, ipv6=server.ipv6)
        certbot = ContainedCertbot(
            server, authority, folder / "disk", built, runtime.read(_SOURCE / "docs" / "container.md")
        )
        print(f"In the container:\n{certbot.look()}")
        before = server.rules(), web_server.identity(), web_server.error_log
        with load(client, f"http://{server.ipv4}/") as counted:
            _issue(certbot)
        print(f"{counted.requests} requests for nginx's page meanwhile, {counted.failures} failed")
        if counted.failures or "acme-challenge" in web_server.access_log:
            raise RuntimeError("nginx's clients were disturbed, or nginx saw a challenge")
        if (server.rules(), web_server.identity(), web_server.error_log) != before:
            raise RuntimeError("the firewall or nginx is not as before")


def main() -> int:
    """Build and try; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/test-container", description=scripts.container.__doc__)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what was downloaded here, for other runs")
    keep = parser.parse_args().keep
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # what was made is to be taken away then too
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, workshop(keep or Path(scratch) / "kept") as made:
        print("The steps of the Dockerfile:")
        built = image.build(_SOURCE / "Dockerfile", made, Path(scratch) / "image")
        print(f"built after {time.monotonic() - begin:.0f} seconds", flush=True)
        _try(built, Path(scratch))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

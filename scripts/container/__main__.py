"""Build the image, get certificates in containers of it, say what came of it; fail if any of that fails."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shlex
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
from lab.certbot import RENEW, Certbot
from lab.documents import blocks
from lab.interceptor import EBPF, VARIANTS
from lab.load import load
from lab.nginx import nginx
from lab.pebble import pebble
from lab.processes import run, wait_until
from scripts.container import published
from scripts.container.engine import Engine, engine, on_disk
from scripts.distros.rootfs import Root, workshop

_SOURCE = Path(__file__).parents[2]
_BASE, _IMAGE, _NAME = "docker.io/library/debian:trixie-slim", "certbot-standalone-nfq", "example.com"
_PAGE = "container.md"
_LOOK = """
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status
! (: >/proc/sys/net/ipv4/ip_forward) 2>/dev/null && echo '/proc/sys cannot be written to'
! command -v modprobe cc gcc clang pip && ! find / -xdev -path '*-packages/pip*' | grep . &&
    echo 'no modprobe, no compiler, no pip'
mount -t tmpfs tmpfs /mnt 2>/dev/null || echo 'nothing can be mounted'
"""


@dataclass
class ContainedCertbot(Certbot):
    """Certbot in a new container each time, by the document's command; the folder is the disk that volumes are on."""

    engine: Engine
    run_words: list[str]
    """The command up to the image's name."""

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs certbot with these arguments."""
        return self._in_container((), *arguments, "--non-interactive")

    def with_bpf(self) -> ContainedCertbot:
        """Return the same with the capability, and with a profile that allows the system call to those who have it."""
        options = ("--cap-add", "BPF", "--security-opt", f"seccomp={self.engine.write_seccomp_profile()}")
        return dataclasses.replace(self, run_words=with_option(self.run_words, *options))

    def look(self) -> str:
        """Return what a shell sees in such a container."""
        return run(self._in_container(("--entrypoint", "/bin/sh"), "-c", _LOOK))

    def _in_container(self, options: tuple[str, ...], *arguments: str) -> list[str]:
        words = [*with_option(self.run_words, *options), *arguments]
        return self.engine.command(on_disk(shlex.join(words), self.folder), self.host)

    @property
    def configuration(self) -> Path:
        """Where its accounts, certificates and renewals are."""
        return self.folder / "etc/letsencrypt"

    def serial_number(self) -> int:
        """Return the newest certificate's."""
        return x509.load_pem_x509_certificate(self.certificate(_NAME).read_bytes()).serial_number


def with_option(words: list[str], *options: str) -> list[str]:
    """Return `docker run ...` with more options."""
    return [*words[:2], *options, *words[2:]]


def _succeed(result: subprocess.CompletedProcess[str]) -> None:
    if result.returncode:
        raise RuntimeError(f"status {result.returncode}\n{result.stdout}")


def _issue_by(certbot: ContainedCertbot, way: str, arguments: list[str]) -> None:
    """Get a certificate as the document says, by a way to capture, and renew it."""
    begin = time.monotonic()
    options = (*certbot.account(), f"--standalone-nfq-capture={way}", "--force-renewal")
    _succeed(certbot.run(*arguments, *options))
    first = certbot.serial_number()
    _succeed(certbot.run(*RENEW))
    second = certbot.serial_number()
    if first == second:
        raise RuntimeError(f"by {way}: not renewed")
    print(f"by {way}: issued {first:x}, renewed {second:x}, {time.monotonic() - begin:.0f} seconds", flush=True)


def _renew_by_compose(certbot: ContainedCertbot, folder: Path) -> None:
    """Let the service of compose.yaml renew what is due, and end."""
    begin, before = time.monotonic(), certbot.serial_number()
    file = folder / "compose.yaml"
    file.write_text(on_disk((_SOURCE / "deploy/docker/compose.yaml").read_text(), certbot.folder))
    lineage = certbot.configuration / "renewal" / f"{_NAME}.conf"
    lineage.write_text(f"renew_before_expiry = 9999 days\n{lineage.read_text()}")
    compose = f"docker compose -f {file}"
    certbot.engine.run(f"{compose} up -d", certbot.host)
    wait_until(lambda: certbot.serial_number() != before, "the service has renewed the certificate", 120)
    certbot.engine.run(f"{compose} down", certbot.host)
    print(
        f"by the service of compose.yaml: renewed {certbot.serial_number():x}, {time.monotonic() - begin:.0f} seconds"
    )


def _try(made: Engine, words: list[str], folder: Path) -> None:
    after = words.index(_IMAGE) + 1
    with contextlib.ExitStack() as stack:
        client, server = stack.enter_context(hosts.pair())
        web_server = stack.enter_context(nginx(server, folder / "nginx"))
        authority = stack.enter_context(pebble(client, folder / "pebble"))
        authority.resolve(_NAME, ipv4=server.ipv4, ipv6=server.ipv6)
        certbot = ContainedCertbot(server, authority, folder / "disk", made, words[:after])
        for place in ("etc", "var/lib", "var/log"):
            (certbot.folder / place / "letsencrypt").mkdir(parents=True)
        shutil.copyfile(authority.certificate, certbot.configuration / "authority.pem")
        made.set_environment(REQUESTS_CA_BUNDLE="/etc/letsencrypt/authority.pem")
        print(f"In the container:\n{certbot.look()}")
        before = server.rules(), web_server.identity(), web_server.error_log
        with load(client, f"http://{server.ipv4}/") as counted:
            for way in VARIANTS:
                _issue_by(certbot, way, words[after:])
            _renew_by_compose(certbot, folder)
            for way in EBPF:  # last, as Podman's own profile, which the service has, may not allow to renew so
                _issue_by(certbot.with_bpf(), way, words[after:])
        print(f"{counted.requests} requests for nginx's page meanwhile, {counted.failures} failed")
        if counted.failures or "acme-challenge" in web_server.access_log:
            raise RuntimeError("nginx's clients were disturbed, or nginx saw a challenge")
        if (server.rules(), web_server.identity(), web_server.error_log) != before:
            raise RuntimeError("the firewall or nginx is not as before")


def _build(made: Engine, command: str, root: Root) -> None:
    """Build the image by the document's command, on the machine's own network."""
    made.take(root, _BASE)
    settings = f"--network host --volume {made.write_pip_settings()}:/etc/pip.conf:ro"
    steps = made.run(command.replace("docker build", f"docker build {settings}"))
    print("\n".join(line for line in steps.splitlines() if " STEP " in line))
    print(made.run(f"docker images; docker inspect --format '{{{{json .Labels}}}}' {_IMAGE}"))


def main() -> int:
    """Build and try; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/test-container", description=scripts.container.__doc__)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what was downloaded here, for other runs")
    keep = parser.parse_args().keep
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # what was made is to be taken away then too
    begin = time.monotonic()
    commands = blocks(_PAGE, "Certbot in a container")[0].replace("\\\n", " ").splitlines()
    with tempfile.TemporaryDirectory() as scratch, engine(Path(scratch) / "engine") as made:
        with workshop(keep or Path(scratch) / "kept") as kept:
            root = kept.make("trixie", Path(scratch) / "base")
        _build(made, commands[0], root)
        print(f"built after {time.monotonic() - begin:.0f} seconds", flush=True)
        _try(made, shlex.split(commands[1]), Path(scratch))
        published.follow(made, root, Path(scratch))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

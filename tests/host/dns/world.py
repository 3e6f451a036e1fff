"""Hosts with a DNS of their own: a root and com, a provider of name servers, and the machine that asks."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from certbot_standalone_nfq.host.dns.judgement import Lead
from certbot_standalone_nfq.host.dns.lead import leads
from lab.dns import resolving
from lab.hosts import Host
from lab.zones import ZoneFile, nsd, signed, unbound, zone

REGISTRY = "198.51.100.10"
PROVIDER = "198.51.100.11"
MACHINE = "198.51.100.2"
NAME = "example.com"
CHALLENGE = f"_acme-challenge.{NAME}"
AT_PROVIDER = f"@ 60 IN NS ns.provider.com.\n@ 60 IN A {MACHINE}\n"
"""Records of a zone that a provider serves, for a web site on the machine."""
AT_MACHINE = f"@ 60 IN NS ns\nns 60 IN A {MACHINE}\n@ 60 IN A {MACHINE}\n"
"""Records of a zone that the machine serves, for a web site there."""
_COM = f"""\
@ 60 IN NS ns.root.
provider 60 IN NS ns.provider
ns.provider 60 IN A {PROVIDER}
"""


@dataclass
class World:
    """The zones, as they are to be."""

    internet: Host
    machine: Host
    folder: Path
    provider: list[ZoneFile] = field(default_factory=list)
    own: list[ZoneFile] = field(default_factory=list)
    com: str = ""
    """Records of com: delegations."""
    is_signed: bool = False
    """Whether the root and com are signed."""
    anchor: str = ""
    """The root's DS record, once it runs."""

    def sign(self, made: ZoneFile) -> ZoneFile:
        """Sign a zone, and let the one above say so."""
        self.is_signed = True
        made = signed(made, self.folder / f"sign-{made.name}")
        self.com += f"{made.ds}\n"
        return made

    def _new_folder(self, name: str) -> Path:
        """Return a folder, without what an earlier run left in it."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.folder / name

    @contextlib.contextmanager
    def running(self, serve_own: bool = True, serve_provider: bool = True) -> Iterator[str]:
        """Run all name servers, and a resolver on the machine; yield its resolv.conf."""
        com, root = zone("com", _COM + self.com, "ns.root."), ""
        if self.is_signed:
            com = signed(com, self._new_folder("com"))
        root = f"@ 60 IN NS ns.root.\nns.root. 60 IN A {REGISTRY}\ncom. 60 IN NS ns.root.\n{com.ds}\n"
        top = zone(".", root, "ns.root.")
        if self.is_signed:
            top = signed(top, self._new_folder("root"))
        self.anchor = top.ds
        for address in (REGISTRY, PROVIDER):
            self.internet.run("ip", "address", "replace", f"{address}/24", "dev", "eth0")
        provider = zone("provider.com", f"@ 60 IN NS ns\nns 60 IN A {PROVIDER}\n")
        log = {"log-queries": "yes"}
        running = self._new_folder("running")
        with contextlib.ExitStack() as stack:
            stack.enter_context(nsd(self.internet, running / "registry", REGISTRY, top, com))
            if serve_provider:
                served = [provider, *self.provider]
                stack.enter_context(nsd(self.internet, running / "provider", PROVIDER, *served))
            if serve_own and self.own:
                stack.enter_context(nsd(self.machine, running / "own", MACHINE, *self.own))
            stack.enter_context(unbound(self.machine, running / "unbound", "127.0.0.53", REGISTRY, top.ds, more=log))
            yield stack.enter_context(resolving(self.machine, "127.0.0.53"))

    def leads(self, *names: str, serve_own: bool = True, serve_provider: bool = True) -> dict[str, Lead]:
        """Return where challenges lead, in this world."""
        with self.running(serve_own, serve_provider) as resolv_conf, self.machine.inside():
            all_answer = serve_own and serve_provider
            return leads(names, seconds=8 if all_answer else 4, resolv_conf=resolv_conf)

    def lead(self, serve_own: bool = True, serve_provider: bool = True) -> Lead:
        """Return where the challenge for one name leads."""
        return self.leads(NAME, serve_own=serve_own, serve_provider=serve_provider)[NAME]

    def delegate(self, name: str = NAME, server: str = "ns.provider.com.", glue: str = "") -> None:
        """Let com say who serves a zone."""
        self.com += f"{name}. 60 IN NS {server}\n" + (f"{server} 60 IN A {glue}\n" if glue else "")

    @property
    def asked_of_resolver(self) -> str:
        """What the machine's resolver was asked."""
        return (self.folder / "running" / "unbound" / "unbound.log").read_text()

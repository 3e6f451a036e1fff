"""See it work: a certificate is issued past a busy nginx, on two hosts made for it. As root; leaves nothing behind."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

from cryptography import x509

from lab import hosts
from lab.certbot import Certbot
from lab.load import load
from lab.nginx import nginx
from lab.pebble import pebble

NAME = "example.com"


def main() -> int:
    """Issue a certificate through a busy web server; return the exit status."""
    argparse.ArgumentParser(prog="scripts/demo", description=__doc__).parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        client, server = stack.enter_context(hosts.pair())
        print(f"Two hosts in network namespaces: a server, {server.ipv4}, and the rest of the internet.")
        web_server = stack.enter_context(nginx(server, folder / "nginx"))
        authority = stack.enter_context(pebble(client, folder / "pebble"))
        authority.resolve(NAME, ipv4=server.ipv4, ipv6=server.ipv6)
        print(f"nginx has port 80 of the server, as process {web_server.process.pid}; {NAME} is its name.")
        certbot = Certbot(server, authority, folder / "certbot")
        before = server.rules(), web_server.identity(), web_server.error_log

        print(f"\n$ certbot certonly -a standalone-nfq -d {NAME}    (while clients load nginx's pages)\n")
        with load(client, f"http://{server.ipv4}/") as counted:
            result = certbot.certonly(NAME)
        print(result.stdout)
        if result.returncode:
            return result.returncode

        certificate = x509.load_pem_x509_certificate(certbot.certificate(NAME).read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        print(f"The certificate's subject:          {', '.join(names.get_values_for_type(x509.DNSName))}")
        print(f"The certificate's issuer:           {certificate.issuer.rfc4514_string()}")
        print(f"Pages nginx served meanwhile:       {counted.requests}")
        print(f"Requests that failed:               {counted.failures}")
        seen = sum("acme-challenge" in line for line in web_server.access_log.splitlines())
        print(f"Challenge requests nginx saw:       {seen}")
        unchanged = (server.rules(), web_server.identity(), web_server.error_log) == before
        print(f"Firewall, nginx and its files:      {'as before' if unchanged else 'CHANGED'}")
        return 0 if unchanged and not counted.failures and not seen else 1


if __name__ == "__main__":
    raise SystemExit(main())

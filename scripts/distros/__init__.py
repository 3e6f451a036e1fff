"""Certificates by the Certbot that Debian releases package, which `scripts/test-distros` asks for.

Each release is a root file system without a compiler. The plugin is installed into it as docs/install.md says: by its
Debian package, which is built and examined in another one, or by pip. Its Certbot runs there, on a host of the
laboratory of the tests; the web server, the name server and the authority are this machine's.
"""

"""Certificates by the Certbot that Debian releases package, which `scripts/test-distros` asks for.

Each release is a root file system without a compiler, into which the plugin is installed as the README says. Its
Certbot runs there, on a host of the laboratory of the tests; the web server and the authority are this machine's.
"""

"""Certificates by Certbot in a container, which `scripts/test-container` asks for, without an engine for containers.

The image is built by the steps of the Dockerfile, on a root file system that debootstrap makes. The container is made
of namespaces and two capabilities, as the command in docs/container.md asks for them, on a host of the laboratory of
the tests.
"""

"""Certificates by Certbot in a container, which `scripts/test-container` asks for, with Podman in the place of Docker.

The image is built by the command in docs/container.md, on a base that debootstrap makes. Containers are made by
the other command there, and by compose.yaml, on a host of the laboratory of the tests.
"""

# Certbot with this plugin. It is to share the host's network: see docs/container.md.
FROM debian:trixie-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates iptables nftables python3-venv \
    && rm -rf /var/lib/apt/lists/*

COPY pyproject.toml setup.py README.md LICENSE /usr/src/plugin/
COPY certbot_standalone_nfq /usr/src/plugin/certbot_standalone_nfq/
RUN python3 -m venv /opt/certbot \
    && /opt/certbot/bin/pip install --no-cache-dir /usr/src/plugin \
    && rm -r /usr/src/plugin

ENTRYPOINT ["/opt/certbot/bin/certbot"]

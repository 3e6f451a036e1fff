"""DNS-01 (RFC 8555, 8.4): TXT queries for `_acme-challenge` over port 53."""

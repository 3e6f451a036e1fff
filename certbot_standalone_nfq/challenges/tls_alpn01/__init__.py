"""TLS-ALPN-01 (RFC 8737): a TLS handshake over port 443, whose certificate is the answer."""

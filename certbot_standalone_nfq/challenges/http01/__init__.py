"""HTTP-01 (RFC 8555, 8.3): a request for a token over port 80."""

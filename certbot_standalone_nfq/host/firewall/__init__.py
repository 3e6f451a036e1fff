"""Other programs' firewall rules, read once and judged as far as they are plain."""

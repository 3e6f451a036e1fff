"""Questions to the DNS, and where a dns-01 challenge is looked up. By dnspython."""

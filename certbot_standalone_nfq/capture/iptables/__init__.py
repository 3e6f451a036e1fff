"""NFQUEUE rules by iptables and ip6tables."""

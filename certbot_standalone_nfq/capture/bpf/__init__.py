"""Classic BPF programs, for iptables' rules and for the tap."""

"""The only code that touches the machine: the firewall's rules, the packet queue, the raw sockets."""

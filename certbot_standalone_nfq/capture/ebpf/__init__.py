"""Capture by eBPF: programs at the traffic control hooks of interfaces, ahead of netfilter."""

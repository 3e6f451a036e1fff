"""Packets as bytes and as values: IP, TCP, sequence numbers, the PROXY protocol. Pure: no input or output."""

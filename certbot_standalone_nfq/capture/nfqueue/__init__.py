"""Packets from the kernel's NFQUEUE, and what it takes: a queue number, marks, rules, the watchdog."""

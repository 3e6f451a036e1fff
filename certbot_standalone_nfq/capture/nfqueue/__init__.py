"""Packets from the kernel's NFQUEUE, and all that goes with it: numbers, marks, the watchdog."""

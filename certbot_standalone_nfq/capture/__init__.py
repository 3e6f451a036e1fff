"""Capturing packets: the ways to do it, the choice between them, and the tap, which only observes."""

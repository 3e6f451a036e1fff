"""Getting hold of packets: the ways to do it, the choice between them, and the tap that only looks."""

"""Facts about this machine. Nothing here changes it, but for loading kernel modules."""

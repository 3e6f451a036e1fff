"""Facts about this machine. Nothing here changes it, except that kernel modules may be loaded."""

"""What the plugin costs; each module is a command."""

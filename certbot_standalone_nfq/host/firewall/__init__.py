"""Other programs' firewall rules: how they are read, and what can be told from them."""

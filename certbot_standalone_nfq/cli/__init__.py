"""The program certbot-standalone-nfq. Certbot does not need it."""

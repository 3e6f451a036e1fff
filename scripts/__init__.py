"""What one runs in a checkout, and what these programs are made of."""

"""One validation: the loop that decides on packets, what it sends and listens with, what it records."""

"""The decisions, and nothing else: packets and time come in, verdicts and segments come out.

No module in here opens a socket, starts a thread, reads a clock or the environment, or writes a log;
`tests/test_architecture.py` holds it to that.
"""

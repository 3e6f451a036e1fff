"""The decisions: packets and time come in, verdicts and segments come out.

Pure: no module in here opens a socket, starts a thread, reads a clock or the environment, or writes a log.
"""

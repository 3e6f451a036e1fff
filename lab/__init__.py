"""A laboratory: hosts in network namespaces, real servers and authorities on them, and eyes on the wire.

Everything made here is named so that two runs cannot clash, and is undone by the exit stack it was made on.
"""

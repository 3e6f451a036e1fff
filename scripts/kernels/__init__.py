"""The network suite and an issuance on Debian's own kernels, emulated, with each firewall: `scripts/test-kernels`.

Nothing of a kernel is installed, and nothing that is written inside an emulated machine stays. The report of each run
of pytest there is what the matrix is made of.
"""

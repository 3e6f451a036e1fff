"""NFQUEUE rules by nft."""

"""The unattended run: scenes arrive, pairs are compared once, a ledger remembers."""

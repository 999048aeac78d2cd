"""Heads: what each network's outputs mean, one module a network."""

"""Networks in PyTorch, one folder each, and their registry."""

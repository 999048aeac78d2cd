"""STALE: configuration, network, targets, loss and the names of published checkpoints."""

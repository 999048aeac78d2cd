"""STALE: zero-shot temporal action localization, from PyTorch to an edge device."""

__version__ = "0.1.0"

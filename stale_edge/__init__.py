"""STALE: zero-shot temporal action localization, from PyTorch to an edge device."""

__version__ = "0.2.0"

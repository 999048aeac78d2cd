"""Graphs to export, one module a network, with their exact rewrites."""

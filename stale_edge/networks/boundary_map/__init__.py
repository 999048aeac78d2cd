"""The boundary map: every pair of edges is scored without classes, and classes come from a closed form."""

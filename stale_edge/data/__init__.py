"""Annotated videos: selection, splits, features, batches, vocabularies."""

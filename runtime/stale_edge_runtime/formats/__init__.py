"""Readers and writers: bytes to checked values and back."""

"""The thesis's experiments; no HTML here."""

"""Evaluation: average precision, matching, diagnosis, agreement of two result files."""

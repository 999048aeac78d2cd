"""The thesis's experiments: measured one by one, kept, and shown beside the thesis's figures."""

"""Class names as a person types them, to text embeddings."""

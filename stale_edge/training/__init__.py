"""Training: inputs, settings, the trainer, its state and its log."""

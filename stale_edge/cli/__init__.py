"""The command line: one module per command, and nothing heavy imported before a command runs."""

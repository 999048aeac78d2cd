"""A static site that finds actions in the visitor's own browser: model, page, and the runtime that runs it there."""

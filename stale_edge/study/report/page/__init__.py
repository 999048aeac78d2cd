"""The look of the report, and what makes its charts: a style sheet and a script, written into the page."""

"""Reports of studies: tables, charts and the page; no torch here."""

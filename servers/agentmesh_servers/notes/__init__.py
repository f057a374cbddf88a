"""A folder of Markdown notes, read-only."""

"""Folders of files: read, searched, and changed where that is allowed."""

"""Refits: Lloyd's algorithm or EM over all retained entries, or files, for better parameters."""

"""Checks of the settings against the server: ``streamclust config check --connect``."""

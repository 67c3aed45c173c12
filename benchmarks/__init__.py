"""Measurements side by side with other implementations; each module answers one question and prints a table."""

"""Data sets and tables: where they come from, how they are read."""

"""Families of relational graphs, one a file, found by name."""

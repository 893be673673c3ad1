"""Networks whose layers are rounds, and what they cost."""

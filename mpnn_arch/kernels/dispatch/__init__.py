"""Backend selection: timed once, cached, and never under tracing."""

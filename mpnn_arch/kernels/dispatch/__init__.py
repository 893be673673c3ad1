"""Which backend a round runs on: timed once, remembered once, and never inside a trace."""

"""Measurements: timings, the speed receipt, and the agreement of the backends."""

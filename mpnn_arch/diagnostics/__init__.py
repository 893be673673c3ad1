"""Measuring: timings, the speed receipt, and whether the backends agree."""

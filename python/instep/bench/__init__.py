"""Benchmarks of one step of Adam, against the limit and against other libraries."""

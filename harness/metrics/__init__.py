"""Metrics: exact, vectorized, mergeable across workers."""

"""Models that rank the next item after a history."""

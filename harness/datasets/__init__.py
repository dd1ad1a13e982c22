"""The datasets: one file each, a catalog, and what they share."""

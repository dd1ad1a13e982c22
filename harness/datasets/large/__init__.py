"""Datasets too large for memory: described here by their files, prepared by Ray tasks, block by block."""

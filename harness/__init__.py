"""Everything that is not a model: data, protocols, search, repeats, statistics and tables."""

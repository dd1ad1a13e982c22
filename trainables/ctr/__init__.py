"""Click-through-rate models, the backbones of the cold-start methods."""

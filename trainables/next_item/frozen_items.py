"""Training a diffusion recommender whose item embeddings stay as they are."""

from __future__ import annotations

import torch

from trainables.next_item.blockwise_adamw import BlockwiseAdamW
from trainables.next_item.diffusion_recommender import DiffusionRecommender
from trainables.next_item.late_rows import Rates


def optimizer_without_items(model: DiffusionRecommender) -> torch.optim.Optimizer:
    """Return AdamW over all parameters that take gradients, none of them an item's."""
    matrices = [*model.encoder.matrices.values(), *model.denoiser.matrices.values()]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return BlockwiseAdamW(trained, matrices, [], Rates(model.learning_rate, model.weight_decay))

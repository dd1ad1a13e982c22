"""DGenCTR: generative pre-training of a click-through-rate model by discrete diffusion, and its fine-tuning.

Of the paper (Wang et al., 2025) an abstract and descriptions are public, no program: what these classes take from them
and what is ours stands in `results/dgenctr/README.md`.

Legend: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

from torch import Tensor

from trainables.base import (
    BatchSize,
    ColdStartMethod,
    CtrMethod,
    Log,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    RowSource,
    Validate,
    backbone_state,
    load_backbone,
    no_log,
)
from trainables.checkpoints import Loop
from trainables.ctr.denoiser import FieldDenoiser, NumberBins, Weighting
from trainables.ctr.supervised import Supervised, adam, check_rows, train_epoch
from trainables.diffusion.discrete import SCHEDULES, Corruption, DiscreteDiffusion, KeepingSchedule
from trainables.layers import EmbeddedCtrModel
from trainables.loss_curve import LossCurve
from trainables.rowwise_adam import EmbeddingUpdates

Transfer = Literal["all", "embeddings", "scoring_network", "none"]
EMBEDDINGS = "embeddings."
"""How the names of a backbone's embedding tables begin; its other parameters are the scoring network."""

_BACKBONE_AGAIN = "denoiser.backbone."

_CHOSEN: dict[Transfer, Callable[[str], bool]] = {
    "all": lambda name: True,
    "embeddings": lambda name: name.startswith(EMBEDDINGS),
    "scoring_network": lambda name: not name.startswith(EMBEDDINGS),
    "none": lambda name: False,
}


class DGenCTRPretraining(CtrMethod):
    """The first stage: corrupt the fields and the label of each sample, and learn to restore them.

    All rows take part, with their labels where these are known. Nothing is selected: all epochs are trained. What it
    scores is the label denoised with all fields clean, before any fine-tuning.

    Args:
        backbone: the CTR model, all of whose parameters are trained.
        corruption: `mask` or `uniform`, see `DiscreteDiffusion`.
        schedule: the share of fields that is kept at each time falls `linear`ly or by the `cosine`.
        steps: T.
        label: whether the label takes part; without it the backbone's logit is not trained.
        label_weight: of the label's loss, beside the mean loss of the fields.
        full_below: the largest vocabulary with a softmax over all values.
        negatives: sampled values of a larger vocabulary.
        temperature: of the cosine between a prediction and a value's embedding.
        frequency_correction: whether sampled logits are lowered by the logarithm of their frequency.
        number_bins: bins of a numeric field, two at least.
        weighting: of the times: `equal`, or as in the likelihood's `bound`.
        learning_rate: of Adam.
        weight_decay: an L2 gradient on every parameter.
        batch_size: rows of a batch, two at least.
        epochs: passes over the rows.
    """

    uses_unlabelled_rows: ClassVar[bool] = True

    def __init__(
        self,
        backbone: EmbeddedCtrModel,
        *,
        corruption: Corruption = "mask",
        schedule: KeepingSchedule = "linear",
        steps: PositiveInt = 100,
        label: bool = True,
        label_weight: PositiveFloat = 1.0,
        full_below: NonNegativeInt = 256,
        negatives: PositiveInt = 128,
        temperature: PositiveFloat = 0.1,
        frequency_correction: bool = False,
        number_bins: NumberBins = 10,
        weighting: Weighting = "equal",
        learning_rate: PositiveFloat = 1e-3,
        weight_decay: NonNegativeFloat = 1e-6,
        batch_size: BatchSize = 2048,
        epochs: PositiveInt = 5,
    ) -> None:
        super().__init__(backbone)
        self.denoiser = FieldDenoiser(
            backbone,
            DiscreteDiffusion(SCHEDULES[schedule](steps), corruption),
            full_below=full_below,
            negatives=negatives,
            temperature=temperature,
            frequency_correction=frequency_correction,
            number_bins=number_bins,
            weighting=weighting,
            label=label,
            label_weight=label_weight,
        )
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs

    def checkpoint(self) -> dict[str, Tensor]:
        """Return the state of the backbone, once, and of what the denoiser has beside it."""
        return {name: value for name, value in super().checkpoint().items() if not name.startswith(_BACKBONE_AGAIN)}

    def fit(self, rows: RowSource, validate: Validate, *, seed: int, log: Log = no_log) -> int:
        """Train all epochs, and return their number.

        Raises:
            ValueError: there is no row to train on.
            FloatingPointError: a loss is not finite.
        """
        pretrain(
            self,
            self.denoiser,
            rows,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            epochs=self.epochs,
            curve=LossCurve(),
            seed=seed,
            log=log,
        )
        return self.epochs


class DGenCTR(Supervised):
    """The second stage: denoise the label field alone, from the pre-trained parameters.

    With all other fields clean the denoiser is the backbone, so that this is the ordinary training of the backbone from
    another start, and a trained model costs what the backbone costs.

    Args:
        backbone: the CTR model that was pre-trained.
        transfer: what is taken over: `all` parameters, the `embeddings` or the `scoring_network` alone, or `none`.
        learning_rate: of Adam.
        weight_decay: an L2 gradient on every parameter.
        batch_size: rows of a batch, two at least.
        epochs: at most so many passes over the labelled rows.
        patience: stop after so many epochs without a better validation AUC; 0 trains all epochs and keeps the last.
    """

    needs_start: ClassVar[bool] = True

    def __init__(
        self,
        backbone: EmbeddedCtrModel,
        *,
        transfer: Transfer = "all",
        learning_rate: PositiveFloat = 1e-3,
        weight_decay: NonNegativeFloat = 1e-6,
        batch_size: BatchSize = 2048,
        epochs: PositiveInt = 20,
        patience: NonNegativeInt = 2,
    ) -> None:
        super().__init__(
            backbone,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            epochs=epochs,
            patience=patience,
        )
        self.transfer = transfer

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Take over what is transferred; the rest keeps its initial values.

        Raises:
            ValueError: the checkpoint is of another backbone.
        """
        load_backbone(self.backbone, backbone_state(state), part=_CHOSEN[self.transfer])


def pretrain(
    method: CtrMethod | ColdStartMethod,
    denoiser: FieldDenoiser,
    rows: RowSource,
    *,
    learning_rate: float,
    weight_decay: float,
    batch_size: int,
    epochs: int,
    embedding_updates: EmbeddingUpdates = "all_rows",
    curve: LossCurve,
    seed: int,
    log: Log,
) -> None:
    """Train a method's denoiser, with its backbone, on corrupted rows; interrupted, it goes on where it was.

    The denoiser is a part of the method, so that the method's checkpoints hold what it has learned. Of the embedding
    tables, `touched_rows` are the values that the batch's losses look at, sampled ones and all of a small field too.

    Raises:
        ValueError: there is no row to train on.
        FloatingPointError: a loss is not finite.
    """
    check_rows("pretrain", rows)
    method.checkpoints.once("bins and frequencies", lambda: denoiser.prepare(rows, seed=seed))
    optimizer = adam(denoiser, learning_rate, weight_decay, embedding_updates)
    loop = Loop(method, [optimizer], curve)
    for epoch in range(epochs):
        denoiser.train()
        train_epoch(
            "pretrain", rows, denoiser.losses, optimizer, curve, batch_size,
            seed=seed + epoch, log=log, checkpoints=method.checkpoints, loop=loop,
        )  # fmt: skip

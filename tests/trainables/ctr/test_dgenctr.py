"""The two stages: what is pre-trained, what is transferred, and ordinary training that they are compared with."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from harness.errors import InputError
from harness.methods import checked
from tests.trainables.ctr.killed_training import check_that_it_goes_on
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.base import CtrBatch, CtrMethod, backbone_state
from trainables.ctr.deepfm import DeepFM
from trainables.ctr.dgenctr import EMBEDDINGS, DGenCTR, DGenCTRPretraining, Transfer
from trainables.ctr.fm import FM
from trainables.ctr.supervised import Supervised
from trainables.diffusion.discrete import Corruption

ROWS = small_rows(300)


def pretrained(**given: Any) -> DGenCTRPretraining:
    torch.manual_seed(0)
    method = DGenCTRPretraining(DeepFM(FIELDS), batch_size=64, **{"epochs": 1, **given})
    method.fit(ROWS, lambda: 0.0, seed=0)
    return method


def state_of(method: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


@pytest.mark.parametrize("corruption", get_args(Corruption))
def test_pretraining_lowers_both_losses(corruption: Corruption) -> None:
    points: list[tuple[str, float]] = []
    torch.manual_seed(0)
    method = DGenCTRPretraining(
        DeepFM(FIELDS, dropout=0.0), corruption=corruption, batch_size=100, epochs=60, learning_rate=0.01
    )
    epochs = method.fit(ROWS, lambda: 0.0, seed=0, log=lambda name, value, _: points.append((name, value)))
    assert epochs == 60
    for name in ("pretrain/fields", "pretrain/label"):
        values = [value for key, value in points if key == name]
        assert sum(values[-5:]) < 0.98 * sum(values[:5]), name


def test_a_seed_decides_the_pretraining() -> None:
    first, again = pretrained().checkpoint(), pretrained().checkpoint()
    assert all(torch.equal(value, again[name]) for name, value in first.items())


@pytest.mark.parametrize("given", [{}, {"corruption": "uniform", "full_below": 0, "frequency_correction": True}])
def test_a_killed_pretraining_goes_on_where_it_was(given: dict[str, Any]) -> None:
    def train(method: Any, log: Any) -> None:
        method.fit(ROWS, lambda: 0.0, seed=0, log=log)

    def build() -> CtrMethod:
        return DGenCTRPretraining(DeepFM(FIELDS), batch_size=64, epochs=2, **given)

    check_that_it_goes_on(build, train, batches=10, rows=600)


def test_one_bin_is_too_few() -> None:
    assert checked(DGenCTRPretraining, {"number_bins": 2}, "m") == {"number_bins": 2}
    with pytest.raises(InputError, match=r"^m: number_bins = 1: input should be greater than or equal to 2$"):
        checked(DGenCTRPretraining, {"number_bins": 1}, "m")
    with pytest.raises(ValueError, match=r"^number_bins: 1 is too few to tell numbers apart; give two at least$"):
        DGenCTRPretraining(DeepFM(FIELDS), number_bins=1)


@pytest.mark.parametrize("cls", [Supervised, DGenCTR, DGenCTRPretraining])
def test_batches_of_a_single_row_which_would_train_nothing_are_refused(cls: type[CtrMethod]) -> None:
    assert checked(cls, {"batch_size": 2}, "m") == {"batch_size": 2}
    with pytest.raises(InputError, match=r"^m: batch_size = 1: input should be greater than or equal to 2$"):
        checked(cls, {"batch_size": 1}, "m")


def test_two_bins_are_enough() -> None:
    state = pretrained(number_bins=2, corruption="uniform").checkpoint()
    assert all(bool(value.isfinite().all()) for value in state.values())


def test_without_the_label_the_logits_layer_is_not_trained() -> None:
    torch.manual_seed(0)
    backbone = DeepFM(FIELDS)
    start, start_item = backbone.mlp[-2].weight.clone(), backbone.embeddings.item_ID.clone()
    with_label = backbone_state(pretrained(weight_decay=0.0).checkpoint())
    without = backbone_state(pretrained(weight_decay=0.0, label=False).checkpoint())
    output = next(name for name, value in without.items() if torch.equal(value, start))
    assert not torch.equal(with_label[output], start)
    assert not torch.equal(without["embeddings.item_ID"], start_item)


def test_the_checkpoint_has_the_backbone_once_and_gives_back_the_method() -> None:
    method = pretrained()
    checkpoint = method.checkpoint()
    assert not [name for name in checkpoint if name.startswith("denoiser.backbone.")]
    assert {name.split(".")[0] for name in checkpoint} == {"backbone", "denoiser"}
    other = DGenCTRPretraining(DeepFM(FIELDS))
    other.start_from(checkpoint)
    method.eval(), other.eval()
    torch.testing.assert_close(other(ROWS.batch), method(ROWS.batch))


@pytest.mark.parametrize("transfer", get_args(Transfer))
def test_what_is_transferred(transfer: Transfer) -> None:
    given = backbone_state(pretrained().checkpoint())
    method = DGenCTR(DeepFM(FIELDS), transfer=transfer)
    before = state_of(method.backbone)
    method.start_from(pretrained().checkpoint())
    for name, value in method.backbone.state_dict().items():
        is_embedding = name.startswith(EMBEDDINGS)
        taken = {"all": True, "none": False, "embeddings": is_embedding, "scoring_network": not is_embedding}[transfer]
        assert torch.equal(value, given[name] if taken else before[name]), name
    assert any(name.startswith(EMBEDDINGS) for name in given) and any(not n.startswith(EMBEDDINGS) for n in given)


def test_without_a_transfer_it_is_ordinary_training() -> None:
    states = []
    for cls in (DGenCTR, Supervised):
        torch.manual_seed(0)
        method = cls(DeepFM(FIELDS), batch_size=64, epochs=2, patience=0)
        if isinstance(method, DGenCTR):
            method.transfer = "none"
            method.start_from(pretrained().checkpoint())
        torch.manual_seed(1)
        method.fit(ROWS, lambda: 0.0, seed=3)
        states.append(state_of(method))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_checkpoint_of_another_backbone() -> None:
    for method in (DGenCTR(FM(FIELDS)), Supervised(FM(FIELDS))):
        with pytest.raises(ValueError, match=r"^the checkpoint to start from does not fit this backbone: "):
            method.start_from(pretrained().checkpoint())
    with pytest.raises(ValueError, match="parameters are missing"):
        DGenCTR(DeepFM(FIELDS)).start_from({})


def test_the_epoch_of_the_best_validation_is_kept() -> None:
    scores = iter([0.6, 0.7, 0.65, 0.7, 0.69])
    seen: list[dict[str, Tensor]] = []
    torch.manual_seed(0)
    method = Supervised(DeepFM(FIELDS), batch_size=64, epochs=9, patience=2)

    def validate() -> float:
        seen.append(state_of(method.backbone))
        return next(scores)

    assert method.fit(ROWS, validate, seed=0) == 2
    assert len(seen) == 4, "two epochs without a better one end the training"
    kept = method.backbone.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in seen[1].items())
    assert not torch.equal(kept["embeddings.item_ID"], seen[3]["embeddings.item_ID"])


def test_every_epoch_trains_in_training_mode_in_an_order_of_its_own() -> None:
    taken: list[tuple[bool, tuple[float, ...]]] = []

    class Noted(Supervised):
        def losses(self, batch: CtrBatch) -> dict[str, Tensor]:
            taken.append((self.training, tuple(batch.columns["timestamp"].tolist())))
            return super().losses(batch)

    def validate() -> float:
        method.eval()
        return 0.5

    method = Noted(DeepFM(FIELDS), batch_size=1000, epochs=3, patience=3)
    assert method.fit(ROWS, validate, seed=0) == 1
    modes, orders = zip(*taken, strict=True)
    assert modes == (True, True, True)
    assert len(set(orders)) == 3 and len({tuple(sorted(order)) for order in orders}) == 1


def test_no_patience_trains_all_epochs_without_validation() -> None:
    def validate() -> float:
        raise AssertionError("nothing is validated")

    method = Supervised(DeepFM(FIELDS), batch_size=64, epochs=3, patience=0)
    assert method.fit(ROWS, validate, seed=0) == 3


def test_ordinary_training_learns_the_planted_rule() -> None:
    torch.manual_seed(0)
    method = Supervised(DeepFM(FIELDS), batch_size=100, epochs=40, patience=0, learning_rate=0.02)
    method.fit(ROWS, lambda: 0.0, seed=0)
    right_B = (method.eval()(ROWS.batch) > 0) == (ROWS.batch.label_B > 0.5)
    assert float(right_B.float().mean()) > 0.9


def test_one_row_is_too_few() -> None:
    with pytest.raises(ValueError, match=r"^pretrain: a single row to train on, .*raise the share of labelled rows$"):
        DGenCTRPretraining(DeepFM(FIELDS)).fit(small_rows(1), lambda: 0.0, seed=0)
    with pytest.raises(ValueError, match=r"^train: a single row to train on, .*raise the share of labelled rows$"):
        Supervised(DeepFM(FIELDS)).fit(small_rows(1), lambda: 0.0, seed=0)

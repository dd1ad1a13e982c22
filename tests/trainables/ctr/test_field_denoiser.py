"""The denoiser around every backbone: what it sees, what it does not, and a joint distribution that it recovers.

Legend: B rows, F embedded fields, P predicted fields, V values, X cells of a joint distribution.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from harness.methods import MethodCatalog, load_class
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.base import CtrBatch, Field
from trainables.ctr.deepfm import DeepFM
from trainables.ctr.denoiser import FieldDenoiser, NoisySample, Weighting
from trainables.ctr.fm import FM
from trainables.diffusion.discrete import Corruption, DiscreteDiffusion, kept_linearly
from trainables.layers import EmbeddedCtrModel

CATALOG = MethodCatalog(Path(__file__).parents[3] / "search_spaces")
CLASSES = {name: load_class(CATALOG.find(name)) for name in CATALOG.names()}
BACKBONES = [cls for cls in CLASSES.values() if issubclass(cls, EmbeddedCtrModel)]
SMALL: dict[str, dict[str, Any]] = {"AFN": {"neurons": 20, "hidden": (8, 8)}}


def denoiser(
    cls: type[EmbeddedCtrModel] = DeepFM, corruption: Corruption = "mask", steps: int = 10, **given: Any
) -> FieldDenoiser:
    torch.manual_seed(0)
    backbone = cls(FIELDS, **SMALL.get(cls.__name__, {}))  # type: ignore[arg-type]
    made = FieldDenoiser(backbone, DiscreteDiffusion(kept_linearly(steps), corruption), **given)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.3)
    return made


def clean(batch: CtrBatch, *, shown: bool = False) -> NoisySample:
    rows = len(batch)
    lost_BP = torch.zeros(rows, len(FIELDS), dtype=torch.bool)
    return NoisySample(batch, lost_BP, torch.full((rows,), shown), torch.zeros(rows, dtype=torch.int64))


@pytest.mark.parametrize("cls", BACKBONES)
@pytest.mark.parametrize("corruption", get_args(Corruption))
def test_the_hidden_label_alone_is_denoised_by_the_backbone_as_it_is(
    cls: type[EmbeddedCtrModel], corruption: Corruption
) -> None:
    made, batch = denoiser(cls, corruption).eval(), small_rows(16).batch
    logits_B, predicted_BPD = made(clean(batch))
    torch.testing.assert_close(logits_B, made.backbone(batch))
    assert predicted_BPD.shape == (16, len(FIELDS), 16)


@pytest.mark.parametrize("cls", BACKBONES)
@pytest.mark.parametrize("corruption", get_args(Corruption))
@pytest.mark.parametrize("full_below", [0, 256])
def test_every_parameter_of_every_backbone_learns(
    cls: type[EmbeddedCtrModel], corruption: Corruption, full_below: int
) -> None:
    made = denoiser(cls, corruption, full_below=full_below, frequency_correction=True).train()
    made.prepare(small_rows(256), seed=0)
    losses = made.losses(small_rows(256).batch)
    assert set(losses) == {"fields", "label"}
    sum(losses.values(), torch.zeros(())).backward()
    for name, parameter in made.named_parameters():
        # a hidden number has no place in what is redrawn, nor in DCN and PNN, which leave numbers out
        if parameter.numel() and name != "hidden_number_N":
            assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
            assert bool(parameter.grad.any()), name


def test_masks_hide_what_they_cover() -> None:
    made, batch = denoiser().eval(), small_rows(8).batch
    order = [f.name for f in (*made.fields, *made.numbers)]
    for position, name in enumerate(order):
        lost_BP = torch.zeros(8, len(FIELDS), dtype=torch.bool)
        lost_BP[:, position] = True
        other = CtrBatch({**batch.columns, name: batch.columns[name].flip(0)}, batch.label_B)
        hidden, seen = replace(clean(batch), lost_BP=lost_BP), clean(batch)
        torch.testing.assert_close(made(hidden), made(replace(hidden, batch=other)))
        assert not torch.allclose(made(seen)[1], made(replace(seen, batch=other))[1])


def test_a_label_is_seen_only_where_it_is_shown() -> None:
    made, batch = denoiser().eval(), small_rows(8).batch
    other = CtrBatch(batch.columns, 1 - batch.label_B)
    unknown = CtrBatch(batch.columns, torch.full_like(batch.label_B, torch.nan))
    torch.testing.assert_close(made(clean(batch)), made(clean(other)))
    torch.testing.assert_close(made(clean(batch)), made(clean(unknown)))
    assert not torch.allclose(made(clean(batch, shown=True))[1], made(clean(other, shown=True))[1])


def test_the_time_and_what_is_lost_are_seen() -> None:
    made, batch = denoiser(corruption="uniform").eval(), small_rows(8).batch
    sample = clean(batch)
    for changed in (
        replace(sample, time_B=sample.time_B + 5),
        replace(sample, lost_BP=~sample.lost_BP),
    ):
        assert not torch.allclose(made(sample)[0], made(changed)[0])


def test_unknown_labels_are_hidden_and_have_no_loss() -> None:
    made, batch = denoiser(), small_rows(64).batch
    unknown = CtrBatch(batch.columns, torch.full_like(batch.label_B, torch.nan))
    assert not bool(made.corrupted(unknown).shown_B.any())
    losses = made.losses(unknown)
    assert float(losses["label"].detach()) == 0 and float(losses["fields"].detach()) > 0
    half = CtrBatch(batch.columns, torch.where(torch.arange(64) < 32, batch.label_B, torch.nan))
    assert bool(made.losses(half)["label"].isfinite()) and not bool(made.corrupted(half).shown_B[32:].any())


def test_without_the_label_it_is_never_shown() -> None:
    made, batch = denoiser(label=False), small_rows(64).batch
    assert set(made.losses(batch)) == {"fields"} and not bool(made.corrupted(batch).shown_B.any())


@pytest.mark.parametrize("corruption", get_args(Corruption))
def test_what_is_not_lost_stays(corruption: Corruption) -> None:
    made, batch = denoiser(corruption=corruption), small_rows(256).batch
    sample = made.corrupted(batch)
    for position, field in enumerate((*made.fields, *made.numbers)):
        kept_B = ~sample.lost_BP[:, position]
        now, before = sample.batch.columns[field.name], batch.columns[field.name]
        assert torch.equal(now[kept_B], before[kept_B])
        if corruption == "uniform":
            assert not torch.equal(now, before)
    title, before = sample.batch.columns["title"], batch.columns["title"]
    assert torch.equal(title == 0, before == 0), "padding stays padding"


def test_half_of_all_fields_are_lost_on_average() -> None:
    sample = denoiser(steps=100).corrupted(small_rows(20_000).batch)
    share = float(sample.lost_BP.float().mean())
    assert share == pytest.approx(0.505, abs=0.01)  # the mean of t/T over t = 1 … T
    late = sample.time_B > 50
    assert float(sample.lost_BP[late].float().mean()) > 0.7 > 0.3 > float(sample.lost_BP[~late].float().mean())


def test_bins_hold_equal_numbers_of_rows() -> None:
    made, rows = denoiser(number_bins=4), small_rows(1000)
    made.prepare(rows, seed=0)
    for index, field in enumerate(made.numbers):
        bins = torch.bucketize(rows.batch.columns[field.name], made.edge_NW[index])
        if field.name == "timestamp":
            assert torch.bincount(bins, minlength=4).tolist() == pytest.approx([250] * 4, abs=3)


def test_frequencies_are_those_of_the_words() -> None:
    made, rows = denoiser(full_below=0, frequency_correction=True), small_rows(500)
    made.prepare(rows, seed=0)
    names = [field.name for field in made.fields]
    title = rows.batch.columns["title"].flatten()
    expected = torch.bincount(title[title != 0].long(), minlength=7) / int((title != 0).sum())
    torch.testing.assert_close(made.get_buffer(f"share_{names.index('title')}"), expected)


@pytest.mark.parametrize("weighting", get_args(Weighting))
def test_weights_of_times(weighting: Weighting) -> None:
    made = denoiser(weighting=weighting)
    weight_B = made._weights(torch.tensor([1, 5, 10]))
    # linear, T = 10: T · (1/T) / (t/T) = T/t
    assert weight_B is None if weighting == "equal" else weight_B.tolist() == pytest.approx([10, 2, 1])


def test_only_categories_are_generated() -> None:
    with pytest.raises(ValueError, match="title, timestamp, count: only categories"):
        denoiser().generate(4)


SIZES = {"user_id": 3, "item_id": 4, "place": 2}
TOY_FIELDS = (
    Field("user_id", "category", 3, "user_id"),
    Field("item_id", "category", 4, "item_id"),
    Field("place", "category", 2, "context"),
)
CELLS = list(itertools.product(range(3), range(4), range(2), range(2)))


def toy_batch(cell_B: Tensor) -> CtrBatch:
    value_B4 = torch.tensor(CELLS, dtype=torch.int32)[cell_B]
    columns = {name: value_B4[:, position] for position, name in enumerate(SIZES)}
    return CtrBatch(columns, value_B4[:, 3].float())


@pytest.mark.parametrize("weighting", get_args(Weighting))
@pytest.mark.parametrize("full_below", [256, 0])
@torch.no_grad()
def test_losses_are_means_of_what_the_probabilities_say(
    weighting: Weighting, full_below: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A softmax over samples that hold every value once, each of its share, is the softmax over all values."""
    torch.manual_seed(0)
    process = DiscreteDiffusion(kept_linearly(10), "mask")
    given: dict[str, Any] = {"frequency_correction": True, "temperature": 0.5, "label_weight": 0.25}
    made = FieldDenoiser(DeepFM(TOY_FIELDS), process, full_below=full_below, weighting=weighting, **given).eval()
    for parameter in made.parameters():
        parameter.normal_(std=0.3)
    monkeypatch.setattr(made, "_sampled", lambda position, word_B: torch.arange(made.fields[position].size))
    batch = toy_batch(torch.randint(len(CELLS), (64,)))
    torch.manual_seed(1)
    losses = made.losses(batch)

    torch.manual_seed(1)
    sample = made.corrupted(batch)
    positive_B, values = made.probabilities(sample)
    own = [values[f.name].gather(1, batch.columns[f.name].long().unsqueeze(1)).squeeze(1) for f in made.fields]
    own.append(torch.where(batch.label_B == 1, positive_B, 1 - positive_B))
    lost = [*sample.lost_BP.T, ~sample.shown_B]
    loss = [-chance_B.log()[lost_B] for chance_B, lost_B in zip(own, lost, strict=True)]
    if weighting == "equal":
        means = [float(loss_K.mean()) for loss_K in loss]
    else:  # linear, T = 10: T/t, over all rows
        means = [
            float((loss_K * 10 / sample.time_B[lost_B]).sum()) / 64 for loss_K, lost_B in zip(loss, lost, strict=True)
        ]
    assert float(losses["fields"]) == pytest.approx(sum(means[:3]) / 3, rel=1e-4)
    assert float(losses["label"]) == pytest.approx(0.25 * means[3], rel=1e-4)


@torch.no_grad()
def test_a_large_field_is_predicted_by_the_cosine_over_the_temperature() -> None:
    made, batch = denoiser(full_below=0, temperature=0.5).eval(), small_rows(8).batch
    position = [field.name for field in made.fields].index("item_id")
    predicted_BD, item_VD = made(clean(batch))[1][:, position], made.backbone.item_embedding
    cosine_BV = predicted_BD @ item_VD.T / torch.outer(predicted_BD.norm(dim=1), item_VD.norm(dim=1))
    torch.testing.assert_close(made.probabilities(clean(batch))[1]["item_id"], (2 * cosine_BV).softmax(dim=1))


def model_joint(made: FieldDenoiser) -> Tensor:
    """Return the distribution of the reverse process that restores one field at a time, by enumeration, [X].

    For each cell the mean over all orders of the product of the restored fields' probabilities.
    """
    lost = list(itertools.product([False, True], repeat=4))
    chance: dict[tuple[bool, ...], Tensor] = {}
    batch = toy_batch(torch.arange(len(CELLS)))
    for hidden in lost:
        rows = len(CELLS)
        lost_BP = torch.tensor(hidden[:3]).repeat(rows, 1)
        time_B = torch.full((rows,), made.process.steps * sum(hidden) // 4)
        positive_B, values = made.probabilities(NoisySample(batch, lost_BP, torch.full((rows,), not hidden[3]), time_B))
        own = [values[name].gather(1, batch.columns[name].long().unsqueeze(1)).squeeze(1) for name in SIZES]
        chance[hidden] = torch.stack([*own, torch.where(batch.label_B == 1, positive_B, 1 - positive_B)]).double()
    total_X = torch.zeros(len(CELLS), dtype=torch.float64)
    for order in itertools.permutations(range(4)):
        product_X, hidden = torch.ones(len(CELLS), dtype=torch.float64), [True] * 4
        for position in order:
            product_X = product_X * chance[tuple(hidden)][position]
            hidden[position] = False
        total_X += product_X
    return total_X / 24


def test_a_joint_distribution_of_four_fields_is_recovered() -> None:
    torch.manual_seed(0)
    true_X = torch.softmax(0.8 * torch.randn(len(CELLS)), dim=0).double()
    backbone = DeepFM(TOY_FIELDS, hidden=(64, 64), dropout=0.0)
    made = FieldDenoiser(backbone, DiscreteDiffusion(kept_linearly(40), "mask"))
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2, fused=True)
    steps = 1000
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    for _ in range(steps):
        losses = made.losses(toy_batch(torch.multinomial(true_X, 1024, replacement=True)))
        optimizer.zero_grad()
        (losses["fields"] + losses["label"]).backward()
        optimizer.step()
        decay.step()
    learned_X = model_joint(made.eval())
    assert float(learned_X.sum()) == pytest.approx(1, abs=1e-4)
    assert float((learned_X - true_X).abs().sum()) / 2 < 0.02
    marginals = [true_X.view(3, 4, 2, 2).sum(dim=d, keepdim=True) for d in ((1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2))]
    independent_X = (marginals[0] * marginals[1] * marginals[2] * marginals[3]).flatten()
    assert float((independent_X - true_X).abs().sum()) / 2 > 0.1, "or there is nothing to learn"
    drawn = made.generate(20_000)
    cell_B = drawn.label_B + 2 * (
        drawn.columns["place"] + 2 * (drawn.columns["item_id"] + 4 * drawn.columns["user_id"])
    )
    drawn_X = torch.bincount(cell_B.long(), minlength=len(CELLS)) / 20_000
    # of 20,000 draws from 48 cells, the total variation is 0.02 by chance
    assert float((drawn_X - true_X).abs().sum()) / 2 < 0.04


def test_fm_without_a_hidden_layer_reads_the_sum_of_its_fields() -> None:
    torch.manual_seed(0)
    made = FieldDenoiser(FM(FIELDS), DiscreteDiffusion(kept_linearly(4), "mask"))
    assert made.heads.in_features == 16

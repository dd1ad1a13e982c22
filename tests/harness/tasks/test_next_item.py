from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.datasets.item_text import write_artefact
from harness.datasets.prepared import PreparedDataset
from harness.datasets.synthetic import write_small_sequences
from harness.errors import InputError, TestDataError
from harness.feed import open_sequences
from harness.metrics.ranking import ranks
from harness.tasks import next_item
from harness.tasks.context import Purpose
from harness.tasks.next_item import NextItem, NextItemSettings
from tests.harness.tasks.next_item_runs import SMALL, run, sequences
from trainables.base import SequenceBatch, SequenceSource
from trainables.next_item.diffrec import DiffRec
from trainables.next_item.diffurec import DiffuRec
from trainables.next_item.dreamrec import DreamRec
from trainables.next_item.dreamrec_dpo import DreamRecDPO
from trainables.next_item.fdsa import FDSA
from trainables.next_item.item_knn import ItemKNN
from trainables.next_item.morec import MoRec
from trainables.next_item.popularity import Popularity
from trainables.next_item.preferdiff import PreferDiff
from trainables.next_item.sasrec import SASRec

Example = tuple[tuple[int, ...], int]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return sequences(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("method", SMALL, ids=lambda method: method.__name__)
def test_the_same_seed_gives_the_same_bits(dataset: PreparedDataset, method: type[Any]) -> None:
    first, second = (run(dataset, method, SMALL[method], maximum_epochs=2) for _ in range(2))
    assert first.metrics == second.metrics
    assert np.array_equal(first.arrays["test/rank"], second.arrays["test/rank"])
    assert first.checkpoint is not None
    assert second.checkpoint is not None
    assert all(torch.equal(tensor, second.checkpoint[name]) for name, tensor in first.checkpoint.items())
    other = run(dataset, method, SMALL[method], maximum_epochs=2, seed=1)
    assert not np.array_equal(first.arrays["test/rank"], other.arrays["test/rank"])


def test_sasrec_learns_the_planted_cycle(dataset: PreparedDataset) -> None:
    outcome = run(dataset, SASRec, SMALL[SASRec], maximum_epochs=40)
    assert outcome.metrics["test/recall@5"] > 0.5 > 5 / 30


def test_metrics_follow_from_the_ranks(dataset: PreparedDataset) -> None:
    outcome = run(dataset, SASRec, SMALL[SASRec])
    rank_U = outcome.arrays["test/rank"]
    assert rank_U.dtype == np.int32
    assert rank_U.shape == (30,)
    assert outcome.metrics["test/recall@10"] == pytest.approx(np.mean(rank_U <= 10))
    gains = [1 / np.log2(rank + 1) if rank <= 5 else 0 for rank in rank_U]
    assert outcome.metrics["test/ndcg@5"] == pytest.approx(np.mean(gains))


def test_a_repeat_logs_the_seconds_of_ranking_its_test_split(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that passes half a second at each call of `rank_scores`: 30 test users in batches of 8 are four."""
    clock, logged = [0.0], list[tuple[str, float, int]]()

    class Slow(Popularity):
        def rank_scores(self, batch: SequenceBatch) -> Tensor:
            clock[0] += 0.5
            return super().rank_scores(batch)

    monkeypatch.setattr(next_item.time, "perf_counter", lambda: clock[0])
    run(dataset, Slow, log=lambda *point: logged.append(point), evaluation_batch_size=8)
    assert logged == [("test/inference_s", 2.0, 0)]
    logged.clear()
    run(dataset, Slow, log=lambda *point: logged.append(point), purpose="search")
    assert logged == []


class Watched(SASRec):
    """Counts the training draws, and is evaluated with draws of its own."""

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        torch.rand(17)
        return super().rank_scores(batch)


def test_evaluation_does_not_disturb_training(dataset: PreparedDataset) -> None:
    often = run(dataset, Watched, SMALL[SASRec], maximum_epochs=4, validate_every=1, patience=100)
    seldom = run(dataset, SASRec, SMALL[SASRec], maximum_epochs=4, validate_every=4, patience=100)
    losses: list[list[float]] = [[], []]
    for values, method, every in ((losses[0], Watched, 1), (losses[1], SASRec, 4)):

        def log(name: str, value: float, step: int, values: list[float] = values) -> None:
            if name == "train/loss":
                values.append(value)

        run(dataset, method, SMALL[SASRec], validate_every=every, patience=100, log=log)
    assert losses[0] == losses[1]
    assert often.metrics["epochs"] == seldom.metrics["epochs"] == 4


class ImprovingSASRec(SASRec):
    """Ranks one target more first at each evaluation, so that the last epoch is the best."""

    evaluations = 0

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        self.evaluations += 1
        hit_B1 = (torch.arange(len(batch)) < self.evaluations)[:, None]
        return torch.zeros(len(batch), 30).scatter_(1, batch.target_B.long()[:, None] - 1, hit_B1 * 2.0 - 1)


class ImprovingPreferDiff(PreferDiff):
    evaluations = 0
    rank_scores = ImprovingSASRec.rank_scores  # type: ignore[assignment]


@pytest.mark.parametrize(("method", "difference"), [(ImprovingSASRec, 0.0), (ImprovingPreferDiff, 1e-5)])
def test_evaluation_leaves_what_is_trained_but_for_late_rows(
    dataset: PreparedDataset, method: type[Any], difference: float
) -> None:
    checkpoints = []
    for every in (1, 4):
        parameters = {**SMALL[method.__base__], "learning_rate": 0.01}
        outcome = run(dataset, method, parameters, batch_size=2, validate_every=every, patience=100)
        assert outcome.metrics["best_epoch"] == 4
        assert outcome.checkpoint is not None
        checkpoints.append(outcome.checkpoint)
    often, seldom = checkpoints
    assert max(float((often[name] - seldom[name]).abs().max()) for name in often) <= difference


def test_a_search_cannot_and_does_not_read_test_data(dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def watching(dataset: PreparedDataset, split: str, purpose: Purpose) -> Any:
        opened.append(split)
        return open_sequences(dataset, split, purpose)

    monkeypatch.setattr(next_item, "open_sequences", watching)
    outcome = run(dataset, SASRec, SMALL[SASRec], purpose="search")
    assert set(opened) == {"train", "validation"}
    assert not any("test" in name for name in [*outcome.metrics, *outcome.arrays])
    assert NextItem.primary in outcome.metrics
    with pytest.raises(TestDataError):
        open_sequences(dataset, "test", "search")


def occurrences(dataset: PreparedDataset) -> Tensor:
    """How often each item is in a training row."""
    batches = list(open_sequences(dataset, "train", "repeat").batches(64))
    taken = [batch.history_BL[batch.history_BL > 0] for batch in batches]
    return torch.bincount(torch.cat([*taken, *(batch.target_B for batch in batches)]).long(), minlength=31)[1:]


def test_what_has_nothing_to_train_is_prepared_and_evaluated(dataset: PreparedDataset) -> None:
    outcome = run(dataset, Popularity)
    assert outcome.checkpoint is None
    assert "epochs" not in outcome.metrics
    count_I = occurrences(dataset)
    test = next(open_sequences(dataset, "test", "repeat").batches(1000))
    expected = (count_I >= count_I[test.target_B.long() - 1].unsqueeze(1)).sum(1)
    assert outcome.arrays["test/rank"].tolist() == expected.tolist()


class Sees(SASRec):
    """Remembers the examples that it is prepared with and those that it is trained on."""

    prepared: Counter[Example]
    trained: Counter[Example]

    def prepare(self, train: SequenceSource) -> None:
        type(self).prepared, type(self).trained = Counter(), Counter()
        for batch in train.batches(64):
            self.prepared.update(examples(batch))

    def loss(self, batch: SequenceBatch) -> Tensor:
        self.trained.update(examples(batch))
        return super().loss(batch)


def examples(batch: SequenceBatch) -> list[Example]:
    histories = [tuple(history[:n]) for history, n in zip(batch.history_BL.tolist(), batch.length_B, strict=True)]
    return list(zip(histories, batch.target_B.tolist(), strict=True))


def test_prefixes_are_trained_on_alone_and_on_request(dataset: PreparedDataset) -> None:
    last = Counter(examples(next(open_sequences(dataset, "train", "repeat").batches(1000))))
    every = Counter(
        ((*history, target)[:n], (*history, target)[n])
        for history, target in last.elements()
        for n in range(1, len(history) + 1)
    )
    assert every.total() > 2 * last.total()
    plain = run(dataset, Sees, SMALL[SASRec], maximum_epochs=1)
    assert Sees.prepared == Sees.trained == last
    prefixed = run(dataset, Sees, SMALL[SASRec], maximum_epochs=1, prefixes=True)
    assert Sees.prepared == last and Sees.trained == every
    assert len(plain.arrays["test/rank"]) == len(prefixed.arrays["test/rank"]), "test users stay as they are"


def test_what_trains_nothing_reads_no_prefixes(dataset: PreparedDataset) -> None:
    ranks = [run(dataset, ItemKNN, prefixes=choice).arrays["test/rank"].tolist() for choice in (False, True)]
    assert ranks[0] == ranks[1]


def test_items_of_the_history_are_ranked_last_on_request(dataset: PreparedDataset) -> None:
    """Popularity puts the same items before a target, but those of its history."""
    ranked, last = (run(dataset, Popularity, rank_history=choice).arrays["test/rank"] for choice in (True, False))
    count = [0, *occurrences(dataset).tolist()]
    test = next(open_sequences(dataset, "test", "repeat").batches(1000))
    for row in range(len(test)):
        history, target = set(test.history_BL[row, : int(test.length_B[row])].tolist()), int(test.target_B[row])
        if target in history:
            assert last[row] == 30
        else:
            ahead = sum(count[item] >= count[target] for item in history)
            assert last[row] == ranked[row] - ahead
    assert (last < ranked).any()


def test_what_has_nothing_to_train_starts_from_nothing(dataset: PreparedDataset) -> None:
    with pytest.raises(InputError, match="ItemKNN: has nothing to take over; leave starts_from out of its row"):
        run(dataset, ItemKNN, start={})


def test_a_start_is_evaluated_without_training(dataset: PreparedDataset) -> None:
    trained = run(dataset, PreferDiff, SMALL[PreferDiff])
    assert trained.checkpoint is not None
    again = run(dataset, PreferDiff, SMALL[PreferDiff], start=trained.checkpoint)
    assert np.array_equal(again.arrays["test/rank"], trained.arrays["test/rank"])
    assert again.checkpoint is None
    assert "epochs" not in again.metrics
    assert again.metrics == {name: trained.metrics[name] for name in again.metrics}
    guided = run(dataset, PreferDiff, {**SMALL[PreferDiff], "guidance": 8.0}, start=trained.checkpoint)
    assert not np.array_equal(guided.arrays["test/rank"], trained.arrays["test/rank"])


def test_a_start_may_be_trained_on(dataset: PreparedDataset) -> None:
    trained = run(dataset, SASRec, SMALL[SASRec], maximum_epochs=2)
    assert trained.checkpoint is not None
    losses: list[float] = []

    def log(name: str, value: float, step: int) -> None:
        if name == "train/loss":
            losses.append(value)

    run(dataset, SASRec, SMALL[SASRec], maximum_epochs=1, log=log)
    tuned = run(dataset, SASRec, SMALL[SASRec], maximum_epochs=1, start=trained.checkpoint, train=True, log=log)
    assert losses[1] < losses[0]
    assert tuned.metrics["epochs"] == 1
    assert tuned.checkpoint is not None
    untouched = run(dataset, SASRec, SMALL[SASRec], train=False)
    assert untouched.checkpoint is None
    assert "epochs" not in untouched.metrics


def test_a_method_that_trains_from_a_start_does_and_needs_one(dataset: PreparedDataset) -> None:
    small = {"size": 16, "diffusion_steps": 20, "sampler": "ddim", "ddim_steps": 4}
    trained = run(dataset, DreamRec, small, maximum_epochs=1)
    assert trained.checkpoint is not None
    aligned = run(dataset, DreamRecDPO, small, maximum_epochs=1, start=trained.checkpoint)
    assert aligned.metrics["epochs"] == 1
    assert aligned.checkpoint is not None
    assert torch.equal(aligned.checkpoint["embedding.weight"], trained.checkpoint["embedding.weight"])
    assert not torch.equal(aligned.checkpoint["denoiser.layer.weight"], trained.checkpoint["denoiser.layer.weight"])
    evaluated = run(dataset, DreamRecDPO, small, start=aligned.checkpoint, train=False)
    assert np.array_equal(evaluated.arrays["test/rank"], aligned.arrays["test/rank"])
    with pytest.raises(InputError, match="DreamRecDPO: trains from another trial; give its row starts_from"):
        run(dataset, DreamRecDPO, small)


class Prepared(SASRec):
    """Fails when it is prepared."""

    def prepare(self, train: Any) -> None:
        raise RuntimeError("prepared")


def test_a_model_that_trains_from_a_start_is_not_prepared_again(dataset: PreparedDataset) -> None:
    trained = run(dataset, SASRec, SMALL[SASRec], maximum_epochs=1)
    run(dataset, Prepared, SMALL[SASRec], maximum_epochs=1, start=trained.checkpoint, train=True)
    with pytest.raises(RuntimeError, match="prepared"):
        run(dataset, Prepared, SMALL[SASRec])


def test_a_model_is_given_the_items_text_and_attributes_that_it_takes(tmp_path: Path) -> None:
    small = write_small_sequences(tmp_path / "small", users=200, items=30)
    with pytest.raises(InputError, match="small: nothing is known of its items' text"):
        run(small, MoRec, {"size": 8})
    text_IE = np.random.default_rng(0).standard_normal((30, 12)).astype(np.float32)
    write_artefact(
        small.folder / "text-own-keywords", {"embedding": text_IE}, dataset="small", content="text", note="our text"
    )
    outcome = run(small, MoRec, {"size": 8}, maximum_epochs=1, text_encoder="own", text_source="keywords")
    assert outcome.note.startswith("our text, rows ")
    assert outcome.checkpoint is not None
    assert outcome.checkpoint["transformation.weight"].shape == (8, 12)
    write_artefact(
        small.folder / "text-own-keywords-cls", {"embedding": text_IE}, dataset="small", content="text", note="first"
    )
    chosen: dict[str, Any] = {"text_encoder": "own", "text_source": "keywords", "text_pooling": "cls"}
    assert run(small, MoRec, {"size": 8}, maximum_epochs=1, **chosen).note.startswith("first, rows ")
    attribute_IA = np.array([[1 + index % 5] for index in range(30)], dtype=np.int32)
    write_artefact(
        small.folder / "attributes", {"attribute": attribute_IA}, dataset="small", content="attributes", note="ours"
    )
    assert run(small, FDSA, {"size": 8}, maximum_epochs=1).note.startswith("ours, rows ")
    assert run(small, SASRec, SMALL[SASRec], maximum_epochs=1).note == ""


@pytest.mark.parametrize("method", SMALL, ids=lambda method: method.__name__)
def test_ranks_do_not_depend_on_the_evaluation_batch(dataset: PreparedDataset, method: type[Any]) -> None:
    whole = run(dataset, method, SMALL[method], maximum_epochs=1, evaluation_batch_size=1000)
    parts = run(dataset, method, SMALL[method], maximum_epochs=1, evaluation_batch_size=7)
    assert np.array_equal(whole.arrays["test/rank"], parts.arrays["test/rank"])


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (DiffuRec, {"size": 16, "diffusion_steps": 4, "uncertainty": 1.0}),
        (DiffRec, {"size": 16, "sampling_steps": 5, "noise_scale": 1.0}),
        (PreferDiff, {**SMALL[PreferDiff], "size": 18}),
        (DreamRec, {**SMALL[DreamRec], "size": 18}),
    ],
    ids=["DiffuRec", "DiffRec", "PreferDiff of size 18", "DreamRec of size 18"],
)
def test_noise_of_ranking_may_depend_on_the_evaluation_batch(
    dataset: PreparedDataset, method: type[Any], parameters: dict[str, Any]
) -> None:
    whole, parts = (run(dataset, method, parameters, maximum_epochs=1, evaluation_batch_size=n) for n in (1000, 7))
    assert not np.array_equal(whole.arrays["test/rank"], parts.arrays["test/rank"])


@pytest.mark.parametrize("key", ["batch_size", "evaluation_batch_size", "maximum_epochs", "patience", "validate_every"])
def test_settings_out_of_range(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        NextItemSettings(**{key: 0})


def test_beauty_is_ranked_over_all_items(raw_data: Path, tmp_path: Path) -> None:
    from harness.datasets.catalog import prepare

    beauty = prepare("amazon-beauty", tmp_path, raw=raw_data)
    outcome = run(beauty, SASRec, {"size": 8}, batch_size=4096, maximum_epochs=1)
    rank_U = outcome.arrays["test/rank"]
    assert rank_U.shape == (2237,)
    assert 5000 < rank_U.max() <= 12101
    model = SASRec(12101, 10, size=8)
    assert outcome.checkpoint is not None
    model.load_state_dict(outcome.checkpoint)
    model.eval()
    batch = next(iter(open_sequences(beauty, "test", "repeat").batches(5000)))
    with torch.inference_mode():
        assert ranks(model.rank_scores(batch), batch.target_B).tolist() == rank_U.tolist()

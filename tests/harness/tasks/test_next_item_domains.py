"""What the task `next_item` tells a method of the datasets that its items are from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.datasets.item_descriptions import ItemDescription
from harness.datasets.item_text import item_domains, write_artefact
from harness.datasets.prepared import PreparedDataset
from harness.datasets.synthetic import write_small_sequences
from harness.errors import InputError
from tests.harness.tasks.next_item_runs import run
from trainables.next_item.morec import MoRec
from trainables.next_item.text import whitened

TEXT_IE = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32) + np.arange(5, dtype=np.float32)
OWN_TEXT = {"text_encoder": "own", "text_source": "keywords", "maximum_epochs": 1}


def described(folder: Path, *domains: str) -> PreparedDataset:
    """Write small sequences of items with text, in equal shares of these domains."""
    items = [ItemDescription(f"item {item}", domain=domains[item * len(domains) // 30]) for item in range(30)]
    dataset = write_small_sequences(folder, users=60, items=30, described_items=items)
    write_artefact(
        folder / "text-own-keywords", {"embedding": TEXT_IE}, dataset="small", content="text", note="our text"
    )
    return dataset


class Seen(MoRec):
    """Remembers its text."""

    text_IE: torch.Tensor

    def rank_scores(self, batch: object) -> torch.Tensor:
        Seen.text_IE = self.text.weight
        return super().rank_scores(batch)  # type: ignore[arg-type]


def test_text_is_whitened_by_the_domain_that_items_are_from(tmp_path: Path) -> None:
    joined = described(tmp_path / "joined", "Beauty", "Sports")
    assert item_domains(joined).value.tolist() == [0] * 15 + [1] * 15
    note = run(joined, Seen, {"size": 8}, **OWN_TEXT).note
    assert note.endswith("; item domains: Beauty, Sports")
    halves = [whitened(torch.from_numpy(half_IE), "zca") for half_IE in (TEXT_IE[:15], TEXT_IE[15:])]
    assert torch.equal(Seen.text_IE, torch.cat(halves))


def test_without_domains_items_are_of_one_and_nothing_is_noted(tmp_path: Path) -> None:
    single = described(tmp_path / "single", "")
    bare = write_small_sequences(tmp_path / "bare", users=60, items=30)
    assert [item_domains(one).value.tolist() for one in (single, bare)] == [[0] * 30] * 2
    assert "domain" not in (single.folder / "item_text.csv").read_text(encoding="utf-8").splitlines()[0]
    assert "domain" not in run(single, Seen, {"size": 8}, **OWN_TEXT).note
    assert torch.equal(Seen.text_IE, whitened(torch.from_numpy(TEXT_IE), "zca"))


def test_text_on_axes_of_its_own_is_not_ranked_by_a_model_of_another_dataset(tmp_path: Path) -> None:
    dataset = described(tmp_path / "small", "")
    start = {
        name: run(dataset, MoRec, {"size": 8, "whitening": name}, **OWN_TEXT).checkpoint for name in ("zca", "pca")
    }
    run(dataset, MoRec, {"size": 8}, start=start["zca"], starts_elsewhere=True, **OWN_TEXT)
    own = {"size": 8, "whitening": "pca"}
    run(dataset, MoRec, own, start=start["pca"], **OWN_TEXT)
    with pytest.raises(InputError, match=r"^MoRec: whitening = 'pca' turns each dataset to axes .*; set zca$"):
        run(dataset, MoRec, own, start=start["pca"], starts_elsewhere=True, **OWN_TEXT)

"""Checkpoints of methods in a package of somebody's own: those of other code are not gone on from."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import own_code
from harness.methods import MethodCatalog
from harness.own_code import own_code_hash
from harness.request import Job
from harness.specs import Parameters, TrialSpec
from harness.store import Store
from harness.train_workers import finish_in_workers
from harness.trial import checkpoint_name, code_hash, finish_trial
from tests.harness.small_table import SmallTable, small_cold_start, small_next_item
from trainables.ctr.deepfm import DeepFM
from trainables.next_item.gru4rec import GRU4Rec

NEXT_ITEM = "from tests.doubles import LastItem\n\n\nclass Model(LastItem):\n    pass\n"
BACKBONE = "from tests.doubles import ItemFactors\n\n\nclass Model(ItemFactors):\n    pass\n"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of somebody's own."""
    folder = tmp_path / "packages/somebodys_lab"
    (folder / "parts").mkdir(parents=True)
    for name in ("__init__.py", "parts/__init__.py", "parts/layers.py"):
        (folder / name).write_text("")
    monkeypatch.syspath_prepend(str(folder.parent))
    in_a_new_process()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == folder.name]:
        del sys.modules[name]


def in_a_new_process() -> None:
    own_code._hash_of.cache_clear()


def spec_of(small: SmallTable, method: str, parameters: Parameters) -> TrialSpec:
    small.write_table(rows=[{"name": "Row", "method": method, "parameters": parameters}], seeds=[0])
    job = small.schedule().next_job()
    assert job is not None
    return job.spec


def test_this_programs_classes_have_the_programs_code(tmp_path: Path) -> None:
    assert own_code_hash([GRU4Rec, DeepFM]) == ""
    small = small_next_item(tmp_path)
    small.add_method("gru4rec", "trainables.next_item.gru4rec:GRU4Rec")
    spec = spec_of(small, "gru4rec", {"size": 4})
    assert checkpoint_name(spec, small.catalog) == f"{spec.id}-{code_hash()}"


@pytest.mark.parametrize("changed", ["models.py", "parts/layers.py", "parts/more.py"])
def test_another_source_of_the_package_is_other_code(changed: str, lab: Path, tmp_path: Path) -> None:
    (lab / "models.py").write_text(NEXT_ITEM)
    model = importlib.import_module("somebodys_lab.models").Model
    before = own_code_hash([model])
    in_a_new_process()
    assert own_code_hash([model, GRU4Rec]) == before
    assert len(before) == 12
    with (lab / changed).open("a") as file:
        file.write("# changed\n")
    assert own_code_hash([model]) == before, "a process runs what it has imported"
    in_a_new_process()
    assert own_code_hash([model]) != before


def test_a_module_without_a_package_counts(lab: Path) -> None:
    (lab.parent / "somebodys_model.py").write_text(NEXT_ITEM)
    model = importlib.import_module("somebodys_model").Model
    del sys.modules["somebodys_model"]
    before = own_code_hash([model])
    (lab.parent / "somebodys_model.py").write_text(NEXT_ITEM + "# changed\n")
    in_a_new_process()
    assert own_code_hash([model]) != before


def test_a_trial_looks_for_the_checkpoint_of_its_own_code(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lab / "models.py").write_text(NEXT_ITEM)
    small, names = small_next_item(tmp_path), []
    small.add_method("own", "somebodys_lab.models:Model")
    spec = spec_of(small, "own", {"maximum_epochs": 1})

    def checkpoint(self: Store, name: str, file: str) -> None:
        names.append(name)

    monkeypatch.setattr(Store, "checkpoint", checkpoint)
    for _ in range(2):
        in_a_new_process()
        found = finish_trial(spec, small.dataset, small.catalog, small.store, keep_checkpoint=False)
        assert found.error == ""
        small.store.remove(spec.id)
        (lab / "parts/layers.py").write_text("# changed\n")
    assert names[0] != names[1]
    assert all(name.startswith(f"{spec.id}-{code_hash()}-") for name in names)


def test_so_do_the_workers_of_a_stream_whose_component_is_somebodys_own(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lab / "models.py").write_text(BACKBONE)
    small, names = small_cold_start(tmp_path), []
    small.add_method("own", "somebodys_lab.models:Model")
    small.add_method("bare", "trainables.cold_start.bare:BareBackbone")
    spec = spec_of(small, "bare", {"backbone": "own"}).model_copy(update={"feed": "stream"})

    def trainer(*arguments: Any, run_config: Any, **keys: Any) -> SimpleNamespace:
        names.append(run_config.name)
        return SimpleNamespace(fit=lambda: None)

    monkeypatch.setattr("ray.train.torch.TorchTrainer", trainer)
    finish_in_workers(Job(spec, False, "own"), small.places)
    assert names == [checkpoint_name(spec, MethodCatalog(small.places.search_spaces))]
    model = importlib.import_module("somebodys_lab.models").Model
    assert names == [f"{spec.id}-{code_hash()}-{own_code_hash([model])}"]

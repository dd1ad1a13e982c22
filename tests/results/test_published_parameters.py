"""What `search_spaces/` has as published parameters fits the papers' tables and the data."""

from __future__ import annotations

import pytest

from harness.methods import MethodCatalog
from harness.places import places
from harness.table_specs import find_table

CATALOG = MethodCatalog(places().search_spaces)
TEXT_METHODS = ("llm2bert4rec", "morec", "nearest_text", "preferdiff_t", "tiger", "unisrec")
RELEASED = ("preferdiff_released", "preferdiff_t_released")
TABLE_12 = {"amazon-sports": (0.4, 2), "amazon-beauty": (0.8, 6), "amazon-toys": (0.5, 4)}


@pytest.mark.parametrize("method", ["preferdiff", "preferdiff_t"])
@pytest.mark.parametrize("split", ["", "-leave-one-out"])
@pytest.mark.parametrize("dataset", TABLE_12)
def test_balance_and_guidance_are_those_of_table_12_however_the_users_are_split(
    dataset: str, split: str, method: str
) -> None:
    published = CATALOG.find(method).published_for(dataset + split)
    assert published is not None
    assert (published["balance"], published["guidance"]) == TABLE_12[dataset]


@pytest.mark.parametrize("dataset", [*TABLE_12, "steam"])
def test_preferdiff_t_has_the_released_programs_loss_and_parameters_on_its_own_text(dataset: str) -> None:
    learned, text = (CATALOG.find(name).published_for(dataset) or {} for name in RELEASED)
    source = (CATALOG.find("preferdiff_t").published_for(dataset) or {}).get("text_source")
    assert text == {name: value for name, value in learned.items() if name != "size"} | (
        {} if source is None else {"text_source": source}
    )


@pytest.mark.parametrize("method", [*TEXT_METHODS, *RELEASED, "preferdiff", "dreamrec", "sasrec"])
@pytest.mark.parametrize("dataset", TABLE_12)
def test_leave_one_out_has_the_parameters_of_the_same_data(dataset: str, method: str) -> None:
    found = CATALOG.find(method)
    assert found.published_for(f"{dataset}-leave-one-out") == found.published_for(dataset)


@pytest.mark.parametrize("method", TEXT_METHODS)
def test_items_have_the_text_that_tells_them_apart(method: str) -> None:
    published = {dataset: CATALOG.find(method).published_for(dataset) or {} for dataset in TABLE_12}
    sources = {dataset: values.get("text_source", "descriptions") for dataset, values in published.items()}
    together = CATALOG.find(method).published_for("amazon-beauty-sports") or {}
    assert together.get("text_source") == "keywords"
    assert sources == {"amazon-sports": "keywords", "amazon-beauty": "descriptions", "amazon-toys": "keywords"}


def test_pretraining_on_beauty_alone_differs_from_beauty_and_sports_in_its_data_alone() -> None:
    """A target without keywords is read by its descriptions, as it is after pretraining on both."""
    alone, both = CATALOG.find("preferdiff_t_keywords"), CATALOG.find("preferdiff_t")
    assert alone.published_for("amazon-beauty") == both.published_for("amazon-beauty-sports")
    assert "text_source" not in (alone.published_for("steam") or {})
    for table in ("preferdiff/figure4", "preferdiff/table3"):
        spec, _ = find_table(table, places().results)
        rows = {row.pretrained_on: row for row in spec.rows if "preferdiff_t" in str(row.method)}
        one, two = rows["amazon-beauty",], rows["amazon-beauty-sports",]
        assert (one.method, two.method) == (alone.name, both.name)
        assert one.parameters == two.parameters

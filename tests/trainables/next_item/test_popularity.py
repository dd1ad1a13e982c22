from collections import Counter

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.next_item.conformance import SequencesInMemory
from trainables.next_item.popularity import Popularity


def test_it_scores_by_the_occurrences_in_histories_and_targets() -> None:
    train, batch = random_batch(9000, seed=1), random_batch(3)
    model = Popularity(50, 6)
    model.prepare(SequencesInMemory(train))
    counted: Counter[int] = Counter(train.target_B.tolist())
    for history, length in zip(train.history_BL.tolist(), train.length_B.tolist(), strict=True):
        counted.update(history[:length])
    expected = [float(counted[item]) for item in range(1, 51)]
    assert model.rank_scores(batch).tolist() == [expected] * 3


def test_an_item_that_no_one_took_has_no_point() -> None:
    model = Popularity(60, 6)
    model.prepare(SequencesInMemory(random_batch(500)))
    assert not bool(model.rank_scores(random_batch(1))[0, 50:].any())

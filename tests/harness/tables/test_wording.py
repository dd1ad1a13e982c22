import math

import pytest

from harness.tables.wording import metric_title, number, p_value, signed, value


@pytest.mark.parametrize(
    ("metric", "title"),
    [
        ("warm_a/auc", "warm-a AUC"),
        ("cold/relaimpr", "cold RelaImpr"),
        ("recall@5", "Recall@5"),
        ("ndcg@10", "NDCG@10"),
        ("log_loss", "log loss"),
        ("hit_rate@3", "hit_rate@3"),
    ],
)
def test_metric_titles(metric, title):
    assert metric_title(metric) == title


def test_numbers():
    assert value("cold/auc", 0.73126) == "0.7313"
    assert value("cold/relaimpr", 5.618) == "5.62 %"
    assert value("cold/relaimpr", math.nan) == "–"
    assert signed("cold/auc", 0.0007) == "+0.0007"
    assert signed("cold/auc", -0.0007) == "-0.0007"
    assert signed("cold/auc", 0.00001) == "0.0000"
    assert signed("cold/relaimpr", 0.001) == "0.00 %"
    assert number(-0.00001, 4) == "0.0000"
    assert p_value(0.0004) == "< 0.001"
    assert p_value(2 / 1024) == "0.002"
    assert p_value(math.nan) == "–"

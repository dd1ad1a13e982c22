import pytest
import torch
from sklearn.decomposition import PCA

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.next_item.text import TextEmbedding, Whitening, principal_components, whitened


def correlated(items: int = 200, size: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(size, size, generator=generator)
    return torch.randn(items, size, generator=generator) @ mixing + torch.arange(size)


@pytest.mark.parametrize("whitening", ["zca", "pca"])
def test_whitened_text_has_mean_zero_and_identity_covariance(whitening: str) -> None:
    white_IE = whitened(correlated(), whitening)  # type: ignore[arg-type]
    torch.testing.assert_close(white_IE.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(white_IE.T.cov(), torch.eye(6), atol=1e-4, rtol=0)


def test_zca_is_the_symmetric_root_and_pca_scikit_learns() -> None:
    text_IE = correlated()
    centered_IE = (text_IE - text_IE.mean(0)).double()
    variance_E, axis_EE = torch.linalg.eigh(text_IE.T.double().cov())
    root_EE = axis_EE @ torch.diag(variance_E**-0.5) @ axis_EE.T
    torch.testing.assert_close(whitened(text_IE, "zca"), (centered_IE @ root_EE).float(), atol=1e-4, rtol=1e-4)
    expected = torch.from_numpy(PCA(whiten=True).fit_transform(text_IE.numpy())).float()
    torch.testing.assert_close(whitened(text_IE, "pca").abs(), expected.abs(), atol=1e-3, rtol=1e-3)
    assert torch.equal(whitened(text_IE, "none"), text_IE)


@pytest.mark.parametrize("whitening", ["zca", "pca"])
def test_each_domain_is_whitened_as_if_it_were_alone(whitening: Whitening) -> None:
    text_IE, domain_I = correlated(), torch.arange(200, dtype=torch.int32) % 3 // 2
    text_IE[domain_I == 1] *= torch.arange(1, 7)
    white_IE = whitened(text_IE, whitening, domain_I)
    for domain in range(2):
        assert torch.equal(white_IE[domain_I == domain], whitened(text_IE[domain_I == domain], whitening))
    assert torch.equal(whitened(text_IE, whitening, torch.zeros(200)), whitened(text_IE, whitening))
    assert not torch.allclose(white_IE, whitened(text_IE, whitening), atol=0.1)


@pytest.mark.parametrize("whitening", ["zca", "pca"])
def test_directions_without_variance_become_zero(whitening: str) -> None:
    text_IE = torch.cat([correlated(), torch.full((200, 1), 3.0)], dim=1)
    white_IE = whitened(text_IE, whitening)  # type: ignore[arg-type]
    assert bool(white_IE.isfinite().all())
    assert float(torch.linalg.eigvalsh(white_IE.T.cov())[0]) == pytest.approx(0, abs=1e-5)
    few_IE = whitened(correlated(items=4), whitening)  # type: ignore[arg-type]
    assert torch.linalg.matrix_rank(few_IE, atol=1e-3) == 3


def test_principal_components_are_scikit_learns() -> None:
    text_IE = correlated()
    expected = torch.from_numpy(PCA(3).fit_transform(text_IE.numpy())).float()
    torch.testing.assert_close(principal_components(text_IE, 3).abs(), expected.abs(), atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="have 6 dimensions, fewer than size 7; lower size"):
        principal_components(text_IE, 7)


def test_a_text_table_is_looked_up_but_is_no_state() -> None:
    text_IE = torch.randn(50, 4)
    table, batch = TextEmbedding(text_IE), random_batch(5)
    history_BLD, target_BD = table.histories_and_targets(batch)
    assert torch.equal(target_BD, text_IE[batch.target_B.long() - 1])
    first_BD = table.histories(batch)[:, 0]
    assert torch.equal(first_BD, text_IE[batch.history_BL[:, 0].long() - 1])
    assert torch.equal(history_BLD[:, 0], first_BD)
    assert not table.state_dict()
    assert not list(table.parameters())

"""Semantic IDs: items as short sequences of codes, by residual quantization of their text.

Legend: I items, E text embedding size, C codes of an item, K codes of a codebook, P prefixes of a length.
"""

from __future__ import annotations

import torch
from torch import Tensor


def semantic_ids(text_IE: Tensor, codebooks: int, codebook_size: int, seed: int) -> Tensor:
    """Return `codebooks` codes of each item and one more that tells items with equal codes apart, int64 [I, C].

    Codes run from 0 to K − 1. Quantized by FAISS' residual quantizer, which PreferDiff's TIGER takes in place of
    Rajput et al.'s RQ-VAE; the last code counts items with equal codes in the order of their ids.

    Source: Rajput et al. 2023, §3.1; PreferDiff D.2.

    Raises:
        ValueError: FAISS is missing, the codebook size is no power of two or exceeds the number of items, or more
            than K items have equal codes.
    """
    try:
        import faiss
    except ImportError:
        raise ValueError("semantic IDs need FAISS; pip install 'diffbench[text]'") from None
    bits = codebook_size.bit_length() - 1
    if codebook_size != 2**bits or codebook_size > len(text_IE):
        raise ValueError(f"codebook_size = {codebook_size}: a power of two up to the {len(text_IE)} items is expected")
    faiss.omp_set_num_threads(torch.get_num_threads())
    text = text_IE.cpu().float().contiguous().numpy()
    quantizer = faiss.ResidualQuantizer(text.shape[1], codebooks, bits)
    quantizer.cp.seed = seed % 2**31
    quantizer.cp.min_points_per_centroid = 1  # FAISS warns below this number, 39 by default
    quantizer.train(text)
    packed = quantizer.compute_codes(text)
    code_IC = torch.from_numpy(faiss.unpack_bitstrings(packed, codebooks, bits).astype("int64"))
    return torch.cat([code_IC, _count_of_equals(code_IC, codebook_size)[:, None]], dim=1)


def _count_of_equals(code_IC: Tensor, codebook_size: int) -> Tensor:
    """Return how many items of lower id have the same codes [I]."""
    seen: dict[tuple[int, ...], int] = {}
    count = []
    for codes in map(tuple, code_IC.tolist()):
        count.append(seen.get(codes, 0))
        seen[codes] = count[-1] + 1
    if max(count) >= codebook_size:
        raise ValueError(f"{max(count) + 1} items have equal codes, more than {codebook_size}; raise codebook_size")
    return torch.tensor(count, device=code_IC.device)


def prefix_tables(code_IC: Tensor, codebook_size: int) -> list[Tensor]:
    """Return for each position the table from a prefix and the next code to the longer prefix, or −1, int64 [P, K].

    Prefix 0 of length 0 is the empty one; the numbers behind the last position are item indices from 0 to I − 1.
    """
    tables = []
    parent_I = torch.zeros(len(code_IC), dtype=torch.int64)
    prefixes = 1
    for position, code_I in enumerate(code_IC.T):
        if position == code_IC.shape[1] - 1:
            child_I, children = torch.arange(len(code_IC)), len(code_IC)
        else:
            longer, child_I = torch.unique(parent_I * codebook_size + code_I, return_inverse=True)
            children = len(longer)
        table_PK = torch.full((prefixes, codebook_size), -1)
        table_PK[parent_I, code_I] = child_I
        tables.append(table_PK)
        parent_I, prefixes = child_I, children
    return tables

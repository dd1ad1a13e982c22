from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest
import torch

from harness.seeding import derive_seed, torch_seeded


def test_a_derived_seed_is_the_hash_of_its_arguments() -> None:
    digest = hashlib.sha256(b"7/order/3").digest()
    assert derive_seed(7, "order", 3) == int.from_bytes(digest[:8], "big") // 2
    assert 0 <= derive_seed(7, "order", 3) < 2**63


def test_derived_seeds_differ_by_seed_and_purpose() -> None:
    seeds = [
        derive_seed(seed, purpose, epoch) for seed in range(20) for purpose in ("order", "init") for epoch in (1, 2)
    ]
    assert len(set(seeds)) == len(seeds)


def test_derived_seeds_do_not_depend_on_the_process() -> None:
    code = "from harness.seeding import derive_seed; print(derive_seed(2024, 'a', 1))"
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    assert int(printed) == derive_seed(2024, "a", 1)


def test_the_global_generator_is_put_back() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with torch_seeded(1):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with torch_seeded(1):
        assert torch.equal(torch.rand(3), first)


def test_the_global_generator_is_put_back_after_an_error() -> None:
    before = torch.random.get_rng_state()
    with pytest.raises(ZeroDivisionError), torch_seeded(1):
        torch.rand(1)
        raise ZeroDivisionError
    assert torch.equal(torch.random.get_rng_state(), before)

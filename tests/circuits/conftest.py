"""Both implementations of the elimination run the tests that ask for ``solver``."""

from __future__ import annotations

import pytest

from device_models.crossbar import compiled, effective, elimination, factorization


@pytest.fixture(params=["compiled", "torch"])
def solver(request, monkeypatch):
    """Let the compiled kernels, or the torch operations that run on CUDA, solve tensors on the processor."""
    chosen = compiled if request.param == "compiled" else elimination
    monkeypatch.setattr(effective, "backend", lambda g: chosen)
    monkeypatch.setattr(factorization, "backend", lambda g: chosen)
    return request.param

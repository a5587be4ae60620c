"""Rank clipping: layers become two factors, which lose ranks as the network learns (Group Scissor, 2017).

A matrix ``W [N, M]`` becomes ``U [N, K] V [K, M]`` with orthonormal rows of V at first, so that U has all the
scale. Between stretches of training every layer is clipped to the smallest rank whose relative error is
within bounds, by principal component analysis of U without subtracting its mean: with P the leading
eigenvectors of ``U^T U``, ``U <- U P`` and ``V <- P^T V``. Where the error is counted is a choice: in U, as
the paper does, or in the product ``U V``, by its singular values.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from hwloop.networks import CrossbarLayer, crossbar_layers, factor_layers, from_matrix, to_matrix

By = Literal["factor", "product"]


class Factored:
    """Layers of a network as pairs of factors whose ranks can shrink.

    Args:
        net: the network, changed in place.
        ranks: rank of each layer that becomes two.
    """

    def __init__(self, net: nn.Module, ranks: Mapping[str, int]) -> None:
        layers = crossbar_layers(net)
        self._net = net
        self._whole: dict[str, CrossbarLayer] = {name: copy.deepcopy(layers[name]) for name in ranks}
        for name, rank in ranks.items():
            left, values, right = torch.linalg.svd(to_matrix(layers[name]).detach(), full_matrices=False)
            self._place(name, left[:, :rank] * values[:rank], right[:rank])

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of each factored layer, as it is now."""
        return {name: len(self._factors(name)[1]) for name in self._whole}

    def clip(self, error: float, by: By) -> None:
        """Give each layer the smallest rank whose relative squared error is at most ``error``."""
        for name in self._whole:
            u, v = self._factors(name)
            if by == "factor":
                values, vectors = torch.linalg.eigh((u.T @ u).double())
                rank, p = _rank(values.flip(0), error), vectors.flip(1).to(u)
                u, v = u @ p[:, :rank], p[:, :rank].T @ v
            else:
                left, singular, right = torch.linalg.svd(u @ v, full_matrices=False)
                rank = _rank(singular[: u.shape[1]].double().square(), error)
                u, v = left[:, :rank] * singular[:rank], right[:rank]
            self._place(name, u, v)

    def _factors(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        pair = self._net.get_submodule(name)
        u, v = (to_matrix(pair.get_submodule(part)).detach() for part in ("u", "v"))  # type: ignore[arg-type]
        return u, v

    def _place(self, name: str, u: torch.Tensor, v: torch.Tensor) -> None:
        """Put factors in the place of a layer, or of its factors of before."""
        parent, _, child = name.rpartition(".")
        now = self._net.get_submodule(name)
        whole = self._whole[name]
        if whole.bias is not None and isinstance(now, nn.Sequential):
            whole.bias.data.copy_(now.get_submodule("v").bias)  # type: ignore[arg-type]
        setattr(self._net.get_submodule(parent), child, whole)
        factor_layers(self._net, {name: len(v)})
        layers = crossbar_layers(self._net)
        with torch.no_grad():
            for part, matrix in (("u", u), ("v", v)):
                layer = layers[f"{name}.{part}"]
                layer.weight.copy_(from_matrix(layer, matrix))


def _rank(energies: torch.Tensor, error: float) -> int:
    """Return how many of the energies, largest first, leave at most a part ``error`` of their sum."""
    left = 1 - energies.cumsum(0) / energies.sum()
    # Rounding must not ask for one rank more than there is.
    return min(int((left > error + 1e-12).sum()) + 1, len(energies))

"""Maximum likelihood with exact derivatives: estimates, their covariance, and what the data do not tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from scipy.optimize import minimize

from .measurement import Array, MeasurementError

Density = Callable[[torch.Tensor], torch.Tensor]
"""From parameters ``[names]``, positive ones as they are, to the log density of every sample."""

_UNKNOWN = 3.0
"""A parameter whose error is this many times its scale counts as not identified."""
_STEPS = 200

FLAT = 30.0
"""Standard deviations by which the flat density of outliers reaches beyond the data: a narrower one would
take the tails of clean data for outliers."""


@dataclass(frozen=True)
class Parameter:
    """A parameter to be fitted.

    Attributes:
        name: what it is called.
        start: where the fit starts; above 0 for a positive one.
        positive: fitted by its logarithm, with an interval that is symmetric there.
        scale: size of a step for one that is not positive.
    """

    name: str
    start: float
    positive: bool = True
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Estimate:
    """Fitted parameters.

    Attributes:
        names: of the parameters.
        value: their most likely values.
        covariance: of the values, ``[names, names]``.
        positive: which are known by their logarithm.
        log_likelihood: at the values, summed.
        unidentified: parameters that the data do not determine.
    """

    names: tuple[str, ...]
    value: Array
    covariance: Array
    positive: tuple[bool, ...]
    log_likelihood: float
    unidentified: tuple[str, ...]

    def __getitem__(self, name: str) -> float:
        return float(self.value[self.names.index(name)])

    def error(self, name: str) -> float:
        """Standard error of a parameter."""
        k = self.names.index(name)
        return math.sqrt(self.covariance[k, k])

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of a parameter."""
        k = self.names.index(name)
        width = NormalDist().inv_cdf((1 + level) / 2) * self.error(name)
        if not self.positive[k]:
            return self[name] - width, self[name] + width
        factor = math.exp(min(width / self[name], 700.0))
        return self[name] / factor, self[name] * factor


def maximize(density: Density, parameters: Sequence[Parameter], groups: np.ndarray | None = None) -> Estimate:
    """Maximize the sum of log densities over the parameters, by Newton steps in a trust region.

    Args:
        density: the log density of every sample, differentiable.
        parameters: what to fit and where to start.
        groups: number of the group of each sample, where samples of one group are not independent; the
            covariance is then the one that holds whatever the dependence (Liang and Zeger, Biometrika 73,
            1986), with groups as the samples.

    Raises:
        MeasurementError: if the fit does not converge.
    """
    positive = torch.tensor([p.positive for p in parameters])
    scale = torch.tensor([1.0 if p.positive else p.scale for p in parameters], dtype=torch.float64)
    start = torch.tensor(
        [math.log(p.start) if p.positive else p.start / p.scale for p in parameters], dtype=torch.float64
    )

    def natural(x: torch.Tensor) -> torch.Tensor:
        return torch.where(positive, torch.exp(torch.where(positive, x, 0.0)), x * scale)

    def cost(x: torch.Tensor) -> torch.Tensor:
        return -density(natural(x)).sum()

    samples = max(len(density(natural(start))), 1)
    gradient, hessian = torch.func.grad(cost), torch.func.hessian(cost)
    found = minimize(
        lambda x: float(cost(torch.from_numpy(x))) / samples,
        start.numpy(),
        method="trust-exact",
        jac=lambda x: gradient(torch.from_numpy(x)).numpy() / samples,
        hess=lambda x: hessian(torch.from_numpy(x)).numpy() / samples,
        options={"gtol": 1e-6, "maxiter": _STEPS, "initial_trust_radius": 0.5, "max_trust_radius": 3.0},
    )
    at = torch.from_numpy(found.x)
    slope = float(np.abs(gradient(at).numpy() / samples).max())
    if not (np.isfinite(found.fun) and slope < 1e-3):
        names = ", ".join(p.name for p in parameters)
        raise MeasurementError(
            f"the fit of {names} did not converge (slope {slope:.1e}): more or cleaner data"
        )
    fitted = tuple(p.name for p in parameters)
    covariance, unidentified = _covariance(hessian(at).numpy(), fitted)
    if groups is not None:
        covariance = _robust(covariance, torch.func.jacfwd(lambda x: density(natural(x)))(at).numpy(), groups)
    value = natural(at).numpy()
    slopes = np.where(positive.numpy(), value, scale.numpy())
    covariance = covariance * np.outer(slopes, slopes)
    return Estimate(
        fitted, value, covariance, tuple(p.positive for p in parameters), -found.fun * samples, unidentified
    )


def _covariance(hessian: Array, names: tuple[str, ...]) -> tuple[Array, tuple[str, ...]]:
    """Inverse of the observed information, and the parameters with a part in a direction without any."""
    eigenvalues, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    known = eigenvalues > 1e-9 * max(float(eigenvalues[-1]), 1e-300)
    covariance = (vectors[:, known] / eigenvalues[known]) @ vectors[:, known].T
    lost = (np.abs(vectors[:, ~known]) > 0.3).any(1)
    wide = np.sqrt(np.diag(covariance)) > _UNKNOWN
    return covariance, tuple(n for n, bad in zip(names, lost | wide, strict=True) if bad)


def _robust(bread: Array, scores: Array, groups: np.ndarray) -> Array:
    """Sandwich covariance with scores summed over groups, and the correction for few of them."""
    count = int(groups.max()) + 1
    summed = np.zeros((count, scores.shape[1]))
    np.add.at(summed, groups, scores)
    return bread @ (summed.T @ summed) @ bread * (count / max(count - 1, 1))


def log_normal_density(residual: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Log density of a Gaussian."""
    return -0.5 * (residual / sigma) ** 2 - torch.log(sigma) - 0.5 * math.log(2 * math.pi)


def contaminated(core: torch.Tensor, log_outlier: float, share: torch.Tensor) -> torch.Tensor:
    """Log density of samples of which a ``share`` are outliers with a flat density.

    A weak prior (share to the power 1/2) keeps the share of a clean sample off zero.
    """
    # logsumexp, not logaddexp: the second derivatives of that one overflow far from the core.
    flat = torch.log(share) + log_outlier
    mixed = torch.logsumexp(torch.stack([torch.log1p(-share) + core, flat.expand_as(core)]), 0)
    return mixed + 0.5 * torch.log(share) / len(core)


def outliers(core: Array, log_outlier: float, share: float) -> np.ndarray:
    """Which samples are more likely outliers than not."""
    return np.log(share) + log_outlier > np.log1p(-share) + core

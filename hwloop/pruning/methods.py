"""The methods of the literature as pairs: what a layer keeps, and what drives its weights there.

Each method turns a share of a layer's weights into counts of the kinds that it works with, so that all can be
asked for the same thing; ``docs/pruning.md`` names the papers and where they leave a choice open.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel
from torch import nn

from device_models.parts import Parts
from hwloop.networks import CrossbarLayer, crossbar_layers, to_matrix
from hwloop.pruning.constraints import Above, ConstraintSet, Intersection, OneSign, SegmentShapes
from hwloop.pruning.groups import (
    BlockCols,
    BlockRows,
    Blocks,
    Channels,
    ColumnProportional,
    Filters,
    Rows,
    Segments,
    Weights,
)
from hwloop.recipe import Keep, Prune

TERNARY_THRESHOLD = 0.05
"""Ternary weights below this part of the largest become zero."""

Optimiser = Literal["admm", "lasso", "clipped", "reweighted", "gates", "hard", "once", "random", "scratch"]


@dataclass(frozen=True)
class Shape:
    """What a method must know of a layer.

    Attributes:
        rows, cols: of its matrix.
        window: matrix rows of one input channel.
        last: whether its columns are the classes, none of which can go.
        array: word lines and bit lines of one array.
    """

    rows: int
    cols: int
    window: int
    last: bool
    array: tuple[int, int]

    @property
    def bands(self) -> int:
        """Groups of word lines, each as high as an array."""
        return -(-self.rows // self.array[0])

    @property
    def blocks(self) -> int:
        """Arrays that hold the whole matrix."""
        return self.bands * -(-self.cols // self.array[1])


@dataclass(frozen=True)
class Method:
    """A pruning method.

    Attributes:
        title: what it is, in a few words.
        optimiser: what drives weights into the sets.
        keep: makes counts of a share of a layer's weights.
        purify: validation accuracy that clean-up of nearly empty structures may cost; None = no clean-up.
        progressive: whether the share is approached round by round.
        reorders: whether inputs of little weight are put into the same groups of word lines.
        ternary: whether cells have one level.
        sparse_columns: whether the mapping must keep to the weights that a bit line was left.
        polarised: whether weights of a fragment share their sign, so that one array holds both.
        parameters: model of ``prune.parameters``, which ``keep`` finds in its choice; None = there are none.
    """

    title: str
    optimiser: Optimiser
    keep: Callable[[float, Shape, Prune], Keep]
    purify: float | None = None
    progressive: bool = False
    reorders: bool = False
    ternary: bool = False
    sparse_columns: bool = False
    polarised: bool = False
    parameters: type[BaseModel] | None = None


def _part(share: float, of: int) -> int:
    return max(1, min(of, math.ceil(share * of - 1e-9)))


def _structured(share: float, shape: Shape, _choice: Prune | None = None) -> Keep:
    """Keep filters and rows of what is left, each by the root of the share; all classes stay."""
    filters = shape.cols if shape.last else _part(math.sqrt(share), shape.cols)
    rows = _part(share * shape.cols / filters, shape.rows)
    return Keep(filters=None if shape.last else filters, rows=rows)


def _with_columns(share: float, shape: Shape, choice: Prune) -> Keep:
    """Keep ``per_column`` weights of each bit line, and structures for the rest of the share."""
    dense = min(1.0, choice.per_column / min(shape.rows, shape.array[0]))
    structured = _structured(min(1.0, share / dense), shape)
    return structured.model_copy(update={"per_column": choice.per_column})


def _with_fragments(share: float, shape: Shape, choice: Prune) -> Keep:
    return _structured(share, shape).model_copy(update={"fragment": choice.fragment})


def _shapes(share: float, shape: Shape, _choice: Prune) -> Keep:
    """Keep an array's word lines of row groups that are higher, in as many shapes as fill arrays."""
    rows = min(shape.rows, shape.array[0])
    height = min(shape.rows, math.ceil(rows / share))
    return Keep(
        shapes=max(1, round(shape.cols / shape.array[1])),
        shape_height=height,
        shape_rows=_part(share, height),
    )


def _lines_of_blocks(share: float, shape: Shape, _choice: Prune) -> Keep:
    rows, cols = min(shape.rows, shape.array[0]), min(shape.cols, shape.array[1])
    if shape.last:
        return Keep(block_rows=_part(share, rows))
    kept = _part(math.sqrt(share), rows)
    return Keep(block_rows=kept, block_cols=_part(share * rows / kept, cols))


def _grain(share: float, shape: Shape, choice: Prune) -> Keep:
    if choice.grain == "crossbar":
        return Keep(blocks=_part(share, shape.blocks))
    return Keep(segments=_part(share, shape.bands * shape.cols))


def _rank(share: float, shape: Shape, _choice: Prune) -> Keep:
    """Keep the rank whose two factors have the share's weights; the classifier is never clipped."""
    if shape.last:
        return Keep()
    return Keep(
        rank=max(
            1,
            min(
                math.floor(share * shape.rows * shape.cols / (shape.rows + shape.cols)),
                shape.rows,
                shape.cols,
            ),
        )
    )


def _filters(share: float, shape: Shape, _choice: Prune) -> Keep:
    """Keep filters alone; rows go with the filters of the layer before."""
    return Keep() if shape.last else Keep(filters=_part(math.sqrt(share), shape.cols))


_OWN: dict[str, Method] = {
    "group-scissor": Method("rank clipping and group connection deletion", "lasso", _rank),
    "crossbar-aware": Method(
        "L0 gates with relaxant probabilistic projection", "gates", _grain, reorders=True
    ),
    "admm": Method("filters and rows by ADMM", "admm", _structured),
    "tiny": Method("filters and rows by ADMM, purified", "admm", _structured, purify=0.002),
    "admm-nn": Method(
        "single weights by progressive ADMM",
        "admm",
        lambda share, shape, _: Keep(weights=_part(share, shape.rows * shape.cols)),
        progressive=True,
    ),
    "tinyadc": Method(
        "column-proportional after structured pruning, by ADMM", "admm", _with_columns, sparse_columns=True
    ),
    "forms": Method(
        "one sign per fragment after structured pruning, by ADMM", "admm", _with_fragments, polarised=True
    ),
    "segprune": Method("segments of few shapes by ADMM", "admm", _shapes),
    "block": Method("rows and columns of blocks by reweighted group lasso", "reweighted", _lines_of_blocks),
    "ternary": Method(
        "arrays by clipped group lasso, ternary weights",
        "clipped",
        lambda share, shape, _: Keep(blocks=_part(share, shape.blocks)),
        ternary=True,
    ),
    "magnitude": Method(
        "single weights of largest magnitude, at once",
        "once",
        lambda share, shape, _: Keep(weights=_part(share, shape.rows * shape.cols)),
    ),
    "l1-filter": Method("filters of largest 1-norm, at once", "once", _filters),
    "random": Method("filters and rows by chance", "random", _structured),
    "hard-threshold": Method("filters and rows by iterative hard thresholding", "hard", _structured),
    "small": Method("a dense network with fewer filters, from scratch", "scratch", _filters),
}
METHODS: Parts[Method] = Parts(
    "hwloop.pruning",
    "pruning method",
    __name__,
    lambda part: "" if isinstance(part, Method) else f"is {type(part).__name__}, not a Method",
)
"""Every method by its name in recipes and on the command line; the last five of our own are baselines."""

for _name, _method in _OWN.items():
    METHODS.add(_name)(_method)


def shapes(net: nn.Module, array: tuple[int, int]) -> dict[str, Shape]:
    """Return what methods must know of each crossbar layer; the last one defined has the classes."""
    layers = crossbar_layers(net)
    last = list(layers)[-1]
    return {
        name: Shape(to_matrix(layer).shape[0], len(layer.weight), _window(layer), name == last, array)
        for name, layer in layers.items()
    }


def _window(layer: CrossbarLayer) -> int:
    return layer.kernel_size[0] * layer.kernel_size[1] if isinstance(layer, nn.Conv2d) else 1


def counts(keep: Keep, method: Method, shape: Shape, choice: Prune) -> Keep:
    """Return ``keep`` with its share turned into the counts of a method; counts that it names stay."""
    if keep.share is None:
        return keep
    made = method.keep(keep.share, shape, choice).model_dump(exclude_none=True)
    return Keep(**{**made, **keep.model_dump(exclude_none=True, exclude={"share"})})


def constraint_set(keep: Keep, shape: Shape, ternary: bool = False) -> Intersection:
    """Return the set of matrices that counts describe, coarsest constraint first.

    ``keep.rank`` is no set of masks and is not part of it.
    """
    rows, cols = shape.array
    sets: list[ConstraintSet] = []
    if keep.filters is not None:
        sets.append(Filters(keep.filters))
    if keep.channels is not None:
        sets.append(Channels(keep.channels, shape.window))
    if keep.rows is not None:
        sets.append(Rows(keep.rows))
    if keep.blocks is not None:
        sets.append(Blocks(keep.blocks, rows, cols))
    if keep.segments is not None:
        sets.append(Segments(keep.segments, rows))
    if keep.block_rows is not None:
        sets.append(BlockRows(keep.block_rows, rows, cols))
    if keep.block_cols is not None:
        sets.append(BlockCols(keep.block_cols, rows, cols))
    if keep.shapes is not None and keep.shape_height is not None:
        sets.append(SegmentShapes(keep.shapes, keep.shape_rows or rows, keep.shape_height))
    if keep.weights is not None:
        sets.append(Weights(keep.weights))
    if ternary:
        sets.append(Above(TERNARY_THRESHOLD))
    if keep.per_column is not None:
        sets.append(ColumnProportional(keep.per_column, rows))
    if keep.fragment is not None:
        sets.append(OneSign(keep.fragment))
    return Intersection(tuple(sets))

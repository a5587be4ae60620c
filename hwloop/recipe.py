"""Recipes: TOML files that hold every choice of a run, checked before anything starts."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from device_models.card import CardError, parse_card, read_toml
from device_models.converters import AdcModel, UniformAdc
from device_models.converters.bank import MAX_BITS
from device_models.converters.dac import MAX_DAC_BITS, MAX_LEVEL_MISMATCH
from device_models.wire_table import wire_resistance

AdcBits = Annotated[int, Field(ge=1, le=MAX_BITS)]
Scale = Literal["least-squares", "largest"]
AdcLsb = Annotated[float, Field(gt=0)]
Copies = Annotated[int, Field(ge=1, le=64)]


def _reads(pattern: str, form: str) -> AfterValidator:
    """Return a check of text, whose message shows the form that it must have."""

    def checked(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"must read {form}, not {text[:100]!r}")
        return text

    return AfterValidator(checked)


NetworkSpec = Annotated[
    str,
    _reads(
        r"([^\[\]\x00-\x1f]+\.onnx|[A-Za-z_][\w.]*:[A-Za-z_]\w*)(\[[\w.]+=[0-9]{1,9}(,[\w.]+=[0-9]{1,9})*\])?",
        "package.module:factory or FILE.onnx, with [layer=rank,...] behind it or not",
    ),
]
TargetText = Annotated[
    str,
    _reads(
        r"(tiles|weights|adc_bits|accuracy)=[-+0-9.e]+x?",
        "tiles=8x, weights=20x, adc_bits=5 or accuracy=-0.5",
    ),
]


Section = TypeVar("Section", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Network(_Section):
    """Which network, and weights to start from (empty: train it).

    ``masks`` is a file that says which of these weights are pruned; ``digital`` names layers that stay
    digital, or modules with all that is in them, by patterns such as ``blocks.*.norm`` too.

    The network is ``package.module:factory``, or a file ``FILE.onnx`` with its weights, from which training
    starts. Either followed by ``[layer=rank,...]`` has some layers as low-rank factors.
    """

    factory: NetworkSpec = "hwloop.networks:lenet"
    weights: str = ""
    masks: str = ""
    digital: list[str] = Field(default_factory=list)

    @property
    def trained(self) -> str:
        """The file that has the network's weights; empty if they are to be trained."""
        file = re.match(r"[^\[\]]+\.onnx", self.factory)
        return self.weights or (file[0] if file else "")

    @model_validator(mode="after")
    def _masks_of_weights(self) -> Self:
        if self.masks and not self.trained:
            raise ValueError("masks say which weights are pruned: give the weights too")
        return self


class Data(_Section):
    """Which images, how many are held back for every choice made on the way, and how training moves them.

    Attributes:
        name: a shipped dataset, or a path to the user's own files (docs/networks.md).
        validation: training images that are held back.
        train_images: how many of the others to train on; None = all.
        image_size: height and width that images of a folder are scaled and cut to; None = as they are.
        shift: each training image is moved by up to so many pixels each way.
    """

    name: str = "mnist"
    validation: int = Field(default=5000, ge=0)
    train_images: int | None = Field(default=None, ge=1)
    image_size: int | None = Field(default=None, ge=1, le=4096)
    shift: int = Field(default=0, ge=0, le=64)


GoalName = Annotated[
    str,
    _reads(
        r"auto|classification|regression|next-token|[A-Za-z_][\w.]*:[A-Za-z_]\w*",
        "auto, classification, regression, next-token or package.module:function",
    ),
]


class Task(_Section):
    """What is wanted of the network's outputs; see :class:`hwloop.datasets.Goal`.

    Attributes:
        loss: what training lowers.
        metric: the score that figures are of, 1 at best; reports call it accuracy.
    """

    loss: GoalName = "auto"
    metric: GoalName = "auto"


class Train(_Section):
    """Training of the dense network."""

    epochs: int = Field(default=8, ge=0, le=1000)
    batch: int = Field(default=128, ge=1, le=65536)
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=1)


class Keep(_Section):
    """What a layer keeps of its matrix; counts that are left out do not bind.

    Attributes:
        share: of its weights, from which the method makes counts of the kinds that it works with.
        rank: of the matrix, which then becomes two.
        filters: matrix columns.
        channels: input channels, each as many matrix rows as its kernel has positions.
        rows: matrix rows.
        blocks: arrays.
        segments: stretches of one column over the word lines of one array.
        block_rows: word lines of each array.
        block_cols: bit lines of each array.
        shapes: supports of ``shape_rows`` rows that the columns of a group of ``shape_height`` rows share.
        shape_rows: see ``shapes``; None = the word lines of an array.
        shape_height: see ``shapes``.
        weights: single weights.
        per_column: weights on each bit line of an array.
        fragment: consecutive word lines of a bit line that have one sign.
    """

    share: float | None = Field(default=None, gt=0, le=1)
    rank: int | None = Field(default=None, ge=1)
    filters: int | None = Field(default=None, ge=1)
    channels: int | None = Field(default=None, ge=1)
    rows: int | None = Field(default=None, ge=1)
    blocks: int | None = Field(default=None, ge=1)
    segments: int | None = Field(default=None, ge=1)
    block_rows: int | None = Field(default=None, ge=1)
    block_cols: int | None = Field(default=None, ge=1)
    shapes: int | None = Field(default=None, ge=1)
    shape_rows: int | None = Field(default=None, ge=1)
    shape_height: int | None = Field(default=None, ge=1)
    weights: int | None = Field(default=None, ge=1)
    per_column: int | None = Field(default=None, ge=1)
    fragment: int | None = Field(default=None, ge=2)

    @model_validator(mode="after")
    def _whole_shapes(self) -> Self:
        if (self.shapes is None) != (self.shape_height is None):
            raise ValueError("shapes and shape_height go together")
        if self.shape_rows is not None and self.shapes is None:
            raise ValueError("shape_rows needs shapes")
        return self


class Wires(_Section):
    """Shares of the wires into block rows and out of block columns that stay."""

    rows: float = Field(default=1.0, gt=0, le=1)
    cols: float = Field(default=1.0, gt=0, le=1)


PartName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""Name of a part of our own or of an installed package; what there is, is known where parts are used."""


class Prune(_Section):
    """Pruning: a method drives each layer into what it keeps, and what is left learns again.

    Attributes:
        method: of :data:`hwloop.pruning.METHODS`, or of an installed package (docs/extending.md).
        parameters: that the method of another package asks for.
        target: what to reach, from which shares of layers are searched that ``keep`` does not name:
            ``tiles=8x`` or ``weights=20x`` fewer, ``adc_bits=5`` at most, ``accuracy=-0.5`` points at most.
        trials: of the search.
        rounds: of ADMM, or of projections, or of new weights for groups.
        epochs_per_round: epochs that each takes.
        rho: penalty of ADMM in the first round.
        rho_growth: factor by which it grows from round to round.
        learning_rate: in the rounds.
        strength: of group lasso: what a weight loses in a step, in its layer's rms times the learning rate.
        clip: groups above this part of their layer's mean norm lose nothing (weight penalty clipping).
        grain: what crossbar-aware pruning drops: columns within arrays, or whole arrays.
        projection: how it chooses gates: drawn from a pool that shrinks, drawn from all, or the largest.
        connections: of Group Scissor: for matrices larger than an array, such as ``fc1.u``, what share of
            the wires of block rows and of block columns stays; if none is given, group lasso decides.
        rank_error: largest relative error of clipped ranks, in layers without ``keep.rank``; None = none.
        rank_by: whether the error counts in the first factor (PCA) or in the product of both (SVD).
        per_column: TinyADC's weights on each bit line of an array.
        fragment: FORMS's word lines of one sign.
        on_off: ratio of the highest level to cells that ought not to conduct, for ``adc_bits`` targets;
            None = such cells are absent.
        purify: validation accuracy that clean-up of nearly empty structures may cost, as a fraction; None =
            what the method does: 0.002 for tiny, no clean-up for the others.
        ir_drop: strength of the circuit's share of the objective: what wires take of the arrays' currents.
        retrain_epochs: epochs of masked retraining.
        retrain_learning_rate: its peak learning rate.
        keep: what each layer keeps; a layer that is not named keeps all, unless there is a target.
    """

    method: PartName = "admm"
    parameters: dict[str, Any] = Field(default_factory=dict)
    target: TargetText | None = None
    trials: int = Field(default=24, ge=1, le=10000)
    rounds: int = Field(default=4, ge=1, le=1000)
    epochs_per_round: int = Field(default=1, ge=1, le=1000)
    rho: float = Field(default=1e-3, gt=0)
    rho_growth: float = Field(default=3.0, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    strength: float = Field(default=0.5, ge=0)
    clip: float = Field(default=0.5, gt=0)
    grain: Literal["column", "crossbar"] = "column"
    projection: Literal["pool", "draw", "largest"] = "largest"
    connections: dict[str, Wires] = Field(default_factory=dict)
    rank_error: float | None = Field(default=None, ge=0, lt=1)
    rank_by: Literal["factor", "product"] = "factor"
    per_column: int = Field(default=8, ge=1)
    fragment: int = Field(default=8, ge=2)
    on_off: float | None = Field(default=None, gt=1)
    purify: float | None = Field(default=None, ge=0, lt=1)
    ir_drop: float = Field(default=0.0, ge=0)
    retrain_epochs: int = Field(default=6, ge=0, le=1000)
    retrain_learning_rate: float = Field(default=1e-3, gt=0, le=1)
    keep: dict[str, Keep] = Field(default_factory=dict)


class Quantize(_Section):
    """Training with weights on the card's levels after they are projected.

    Attributes:
        scale: how a layer's scale is chosen: of least squared error, or its largest weight at the highest
            level.
        clip: weights beyond so many standard deviations of their layer's kept weights end there, before the
            scale is chosen; None = none does.
    """

    scale: Scale = "least-squares"
    clip: float | None = Field(default=None, gt=0)
    epochs: int = Field(default=2, ge=0, le=1000)
    learning_rate: float = Field(default=2e-4, gt=0, le=1)


class Readout(_Section):
    """How arrays are read: DACs at the word lines, ADCs at the bit lines, and what is added where.

    Attributes:
        dac_bits: bits of an input.
        bits_per_cycle: of which so many are applied in one cycle, as one of ``2^bits_per_cycle`` levels.
        dac_level_mismatch: standard deviation of a driver's level relative to itself.
        rows_at_once: word lines that are driven at once; None = all of an array.
        subtraction: of the negative polarity: ``digital``, with an ADC for each, or ``analog``, of currents.
        accumulation: over the cycles of an input: ``digital``, with a conversion in each, or ``analog``.
        adc: what the converters are made of.
        adc_calibrated: whether gain and offset of each ADC are trimmed by foreground calibration.
        bit_lines_per_adc: bit lines that take turns at one ADC; None = all of an array.
        adc_bits: resolution, of all layers or by layer; a layer without one gets lossless converters.
        adc_lsb: least significant bit in level steps at the read voltage, of all layers or by layer; a layer
            without one gets the smallest that spans all that its bit lines can carry, and at least 1.
        elapsed: seconds from programming to reading, in which cells drift and relax; None = right after it.
        temperature: in kelvin, at which that time was spent; None = the device card's.
        copies: arrays that hold each tile, of all layers or by layer; digital logic takes the mean of what
            they read, in which what varies from device to device averages out. A layer without has one.
        layer: other values of fields, by layer: ``[hardware.layer."head"]``.
    """

    dac_bits: int = Field(default=8, ge=1, le=MAX_DAC_BITS)
    bits_per_cycle: int = Field(default=1, ge=1, le=8)
    dac_level_mismatch: float = Field(default=0.0, ge=0, le=MAX_LEVEL_MISMATCH)
    rows_at_once: int | None = Field(default=None, ge=1)
    subtraction: Literal["digital", "analog"] = "digital"
    accumulation: Literal["digital", "analog"] = "digital"
    adc: AdcModel = UniformAdc()
    adc_calibrated: bool = False
    bit_lines_per_adc: int | None = Field(default=None, ge=1)
    adc_bits: AdcBits | dict[str, AdcBits] = Field(default_factory=dict)
    adc_lsb: AdcLsb | dict[str, AdcLsb] = Field(default_factory=dict)
    elapsed: float | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, gt=0)
    copies: Copies | dict[str, Copies] = 1
    layer: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _digits_of_inputs(self) -> Self:
        if self.bits_per_cycle > self.dac_bits:
            raise ValueError(f"bits_per_cycle ({self.bits_per_cycle}) is above dac_bits ({self.dac_bits})")
        return self

    @property
    def cycles(self) -> int:
        """Cycles in which the bits of an input are applied."""
        return -(-self.dac_bits // self.bits_per_cycle)

    @property
    def bits_per_conversion(self) -> int:
        """Input bits that one conversion tells of."""
        return self.dac_bits if self.accumulation == "analog" else self.bits_per_cycle

    def of(self, layer: str) -> Self:
        """The same for one layer, with its own values of fields."""
        own = self.layer.get(layer)
        if own is None:
            return self
        data = {name: getattr(self, name) for name in type(self).model_fields if name != "layer"}
        return type(self).model_validate(data | {name: own[name] for name in own.keys() & data.keys()})

    def copies_of(self, layer: str) -> int:
        """Arrays that hold each tile of a layer."""
        copies = self.of(layer).copies
        return copies.get(layer, 1) if isinstance(copies, dict) else copies

    @property
    def most_copies(self) -> int:
        """Copies of the layer that has most."""
        given = self.copies.values() if isinstance(self.copies, dict) else (self.copies,)
        return max([1, *given, *(self.copies_of(name) for name in self.layer)])

    @property
    def chooses_ranges(self) -> bool:
        """Whether ADCs have bits but no range, which the currents of some inputs then choose."""
        own = self.layer.values()
        bits = self.adc_bits != {} or any("adc_bits" in fields for fields in own)
        return bits and self.adc_lsb == {} and not any("adc_lsb" in fields for fields in own)

    @property
    def lossless(self) -> Self:
        """The same with converters that lose nothing."""
        layer = {
            name: {field: value for field, value in own.items() if field not in ("adc_bits", "adc_lsb")}
            for name, own in self.layer.items()
        }
        return self.model_copy(update={"adc_bits": {}, "adc_lsb": {}, "layer": layer})


PER_LAYER = (
    "dac_bits",
    "bits_per_cycle",
    "dac_level_mismatch",
    "rows_at_once",
    "subtraction",
    "accumulation",
    "adc",
    "adc_calibrated",
    "bit_lines_per_adc",
    "adc_bits",
    "adc_lsb",
    "copies",
    "encoding",
    "slices",
    "placement",
    "cells_per_column",
    "node",
    "cell",
    "wire",
    "driver",
    "sense",
)
"""Fields of the hardware that a layer may have its own value of."""


class HardwareConfig(Readout):
    """The arrays: device card, size, wires, and how they are read.

    Attributes:
        wire: ohm of one segment of word lines and bit lines; None = what ``node`` and ``cell`` give.
        driver: ohm between a source and its word line; ``sense``: between a bit line and its virtual ground.
        cells_per_column: most weights that the mapping puts on a bit line; None = as many as word lines.
    """

    card: str = "rram-neurram"
    cell_levels: int | None = Field(default=None, ge=1, le=127)
    encoding: Literal["differential", "offset", "polarised"] = "differential"
    slices: int = Field(default=1, ge=1, le=8)
    placement: Literal["matrix", "near"] = "matrix"
    cells_per_column: int | None = Field(default=None, ge=1)
    rows: int = Field(default=64, ge=1, le=1024)
    cols: int = Field(default=64, ge=1, le=1024)
    node: str = "45nm"
    cell: Literal["1t1r", "crosspoint"] = "1t1r"
    wire: float | None = Field(default=None, ge=0)
    driver: float = Field(default=100.0, ge=0)
    sense: float = Field(default=100.0, ge=0)

    @model_validator(mode="after")
    def _layers_of_their_own(self) -> Self:
        for name, own in self.layer.items():
            for field in own:
                if field not in type(self).model_fields:
                    known = ", ".join(PER_LAYER)
                    raise ValueError(f"layer.{name}: no field {field!r}; a layer may have its own {known}")
                if field not in PER_LAYER:
                    raise ValueError(f"layer.{name}.{field}: is one for all layers of a map")
            try:
                self.of(name)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(str(part) for part in first["loc"])
                raise ValueError(f"layer.{name}.{place}: {first['msg']}") from error
        return self

    @model_validator(mode="after")
    def _known_wires(self) -> HardwareConfig:
        wire_resistance(self.node, self.cell)
        return self

    @model_validator(mode="after")
    def _fragments_fit(self) -> Self:
        if self.encoding == "polarised" and (self.rows_at_once is None or self.rows % self.rows_at_once):
            raise ValueError(
                f"encoding polarised gives one sign to the word lines that are read at once: rows_at_once "
                f"must be given and divide rows ({self.rows}); it is {self.rows_at_once}"
            )
        return self

    @property
    def held(self) -> dict[str, Any]:
        """How arrays hold weights: what :func:`hwloop.mapping.build_map` asks for."""
        names = ("encoding", "slices", "fragment", "placement", "cells_per_column")
        return {name: getattr(self, name) for name in names}

    @property
    def fragment(self) -> int:
        """Word lines whose weights have one sign on a bit line; 1 unless encoding is polarised."""
        return self.rows_at_once or 1 if self.encoding == "polarised" else 1


class Spice(_Section):
    """How many tiles, and how many input vectors of each, ngspice checks."""

    tiles: int = Field(default=4, ge=0)
    inputs: int = Field(default=2, ge=1)


ON_ANY_CHIP = ("hardware", "batch-norm", "variation", "ir-drop")
"""Strategies whose result is a map for any chip."""


class Retrain(_Section):
    """Retraining: how a network learns to live with its arrays.

    Attributes:
        strategy: see :mod:`hwloop.training.strategies`, or of an installed package.
        parameters: that the strategy of another package asks for.
        epochs: passes over the images; with ``chip``, after each programming.
        images: training images of a pass, drawn once; None = all.
        distill: share of the loss that follows a teacher's outputs, the dense digital network's; 0 = labels.
        temperature: that both outputs are divided by before they are compared.
        refresh: steps after which wires are solved anew, or layers retrained in place are programmed again.
        layers_at_once: layers that ``chip`` programs before it trains what follows.
        last_layers: layers at the end that ``hybrid`` retrains in place.
        calibration_instances: device instances that ``scale`` and ``batch-norm`` average over.
    """

    strategy: PartName = "hardware"
    parameters: dict[str, Any] = Field(default_factory=dict)
    epochs: int = Field(default=2, ge=0, le=1000)
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    batch: int = Field(default=128, ge=1, le=65536)
    images: int | None = Field(default=None, ge=1)
    distill: float = Field(default=0.0, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0, le=100)
    refresh: int = Field(default=20, ge=1)
    layers_at_once: int = Field(default=1, ge=1)
    last_layers: int = Field(default=1, ge=1)
    calibration_instances: int = Field(default=4, ge=1)


class Evaluate(_Section):
    """Evaluation on test images, and on freshly programmed device instances.

    Attributes:
        instances: of devices.
        images: the first so many test images.
        device_images: of them, the first so many on each device instance; None = all.
        batch: images that are read together.
    """

    instances: int = Field(default=10, ge=1, le=10000)
    images: int = Field(default=10000, ge=1)
    device_images: int | None = Field(default=None, ge=1)
    batch: int = Field(default=500, ge=1, le=65536)


class Recipe(_Section):
    """Every choice of one run."""

    seed: int = Field(default=1, ge=0, lt=2**63)
    network: Network = Network()
    data: Data = Data()
    task: Task = Task()
    train: Train = Train()
    prune: Prune = Prune()
    quantize: Quantize = Quantize()
    hardware: HardwareConfig = HardwareConfig()
    spice: Spice = Spice()
    retrain: Retrain = Retrain()
    evaluate: Evaluate = Evaluate()


class RecipeError(ValueError):
    """A recipe that cannot be run; the message names the file, the field and the fix."""


def load_recipe(path: str | Path | None = None) -> Recipe:
    """Read a recipe from a TOML file, or the shipped ``lenet-mnist`` recipe when ``path`` is None.

    Raises:
        RecipeError: naming the file and the field.
    """
    try:
        if path is None:
            text = (resources.files("hwloop") / "recipes" / "lenet-mnist.toml").read_text("utf-8")
            data: dict[str, Any] = tomllib.loads(text)
            return parse_card(Recipe, data, "lenet-mnist")
        return parse_card(Recipe, read_toml(Path(path)), str(path))
    except CardError as error:
        raise RecipeError(str(error)) from error


def neutral_recipe(network: str) -> Recipe:
    """Return the recipe of a network that has none: all fields have their defaults, which prune nothing.

    Raises:
        RecipeError: if the network is not named as recipes name it.
    """
    return checked(Recipe, {"network": {"factory": network}}, "command line")


def with_values(recipe: Recipe, section: str, **values: object) -> Recipe:
    """Return a recipe with other values in one section.

    Raises:
        RecipeError: naming the field, if a value cannot be.
    """
    data = recipe.model_dump()
    data[section] |= values
    return checked(Recipe, data, "command line")


def with_setting(recipe: Recipe, text: str) -> Recipe:
    """Return a recipe with another value in one place.

    Args:
        recipe: the recipe.
        text: ``hardware.copies=4``, ``retrain.images=none``, ``seed=2``.

    Raises:
        RecipeError: if the text is not written so, the recipe has no such field, or its value cannot be.
    """
    path, _, value = text.partition("=")
    if not value:
        raise RecipeError(f"--set {text}: write SECTION.FIELD=VALUE")
    *sections, field = path.strip().split(".")
    data = recipe.model_dump()
    place: Any = data
    for section in sections:
        place = place.get(section)
        if not isinstance(place, dict):
            raise RecipeError(f"--set {text}: the recipe has no section {section!r}")
    place[field] = read_value(value.strip())
    return checked(Recipe, data, f"--set {text}")


def read_value(text: str) -> Any:
    """Return what TOML makes of a value, or the text itself; ``none`` stands for no value."""
    if text == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def checked(kind: type[Section], data: dict[str, Any], source: str) -> Section:
    """Return a recipe, or a section of one, of data.

    Raises:
        RecipeError: naming the source and the field, if it is none.
    """
    try:
        return parse_card(kind, data, source)
    except CardError as error:
        raise RecipeError(str(error)) from error

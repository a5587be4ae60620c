"""From what the stations found to ``summary.json`` and ``report.html``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from hwloop.cost import (
    ChipFacts,
    CostByPart,
    CostCard,
    chip_facts,
    dense_facts,
    estimate,
    estimate_by_law,
    load_cost_card,
    mean_area_fraction,
    polarities_unpruned,
    routing,
    saving,
)
from hwloop.line.how import how_obtained
from hwloop.line.inputs import make_wires
from hwloop.line.run_folder import RunFolder
from hwloop.line.walk import STATIONS
from hwloop.mapping import ConductanceMap, LayerMap, Resolution, read_map, resolution, tile_count
from hwloop.recipe import Readout
from hwloop.report import (
    AdcHistogram,
    ReportData,
    explore,
    worst_voltage_loss,
    write_report,
    write_summary,
)
from hwloop.report.summary import (
    Accuracy,
    Adc,
    Compression,
    Cost,
    LawCost,
    Layer,
    MappingCheck,
    SavingShares,
    Spice,
    SpiceArray,
    SpiceStation,
    Spread,
    Summary,
)
from hwloop.training import EpochRecord


def write_results(folder: RunFolder) -> Summary:
    """Write ``summary.json`` and ``report.html`` of a run whose stations are all done; return the summary.

    Raises:
        RunError: if a station has not run.
        OSError: if the folder cannot be written.
    """
    for name in STATIONS:
        folder.result(name)  # says which station has not run
    conductance_map = read_map(folder.path / "stations" / "evaluate_after" / "maps.h5")
    summary = summarize(folder, conductance_map)
    write_summary(summary, folder.path / "summary.json")
    data = ReportData(
        summary=summary,
        records=[
            EpochRecord(**row)
            for station in ("train", "prune", "quantize", "retrain")
            for row in folder.result(station)["records"]
        ],
        conductance_map=conductance_map,
        adc={n: AdcHistogram(c) for n, c in folder.result("evaluate_after")["adc_counts"].items()},
        voltage_loss=worst_voltage_loss(conductance_map, make_wires(folder.recipe.hardware)),
        explorer=explore(conductance_map, make_wires(folder.recipe.hardware)),
    )
    write_report(data, folder.path / "report.html")
    return summary


def summarize(folder: RunFolder, conductance_map: ConductanceMap) -> Summary:
    """Return the figures of a run.

    Args:
        folder: a run whose stations are all done.
        conductance_map: the map after retraining.
    """
    recipe, found = folder.recipe, {name: folder.result(name) for name in STATIONS}
    errors = found["evaluate_after"]["layer_errors"]
    card = conductance_map.card
    adcs = {
        name: resolution(layer, card.levels, recipe.hardware, idle=card.idle_steps)
        for name, layer in conductance_map.layers.items()
    }
    layers = {name: _layer(layer, errors[name], adcs[name]) for name, layer in conductance_map.layers.items()}
    seconds = {name: found[name]["seconds"] for name in STATIONS}
    return Summary(
        seed=recipe.seed,
        network=recipe.network.factory,
        data=recipe.data.name,
        test_images=found["train"]["test_images"],
        accuracy=Accuracy(
            dense=found["train"]["accuracy"],
            pruned=found["prune"]["accuracy"],
            quantized=found["quantize"]["accuracy"],
            ideal=found["map"]["accuracy"],
            hardware_before=Spread.of(found["evaluate_before"]["accuracy"]),
            hardware_after=Spread.of(found["evaluate_after"]["accuracy"]),
        ),
        compression=_compression(layers, conductance_map, found["prune"], recipe.hardware),
        layers=layers,
        mapping=MappingCheck(
            max_logit_difference=found["map"]["max_logit_difference"], images=found["map"]["images"]
        ),
        adc=Adc(
            bits_per_layer={name: layer.adc_bits for name, layer in layers.items()},
            bits_per_tile={name: resolved.bits.tolist() for name, resolved in adcs.items()},
        ),
        spice=_spice(found["verify"]),
        cost=_cost(
            conductance_map, found["map"]["vectors"], recipe.hardware, found["prune"].get("ranks", {})
        ),
        seconds={**seconds, "total": sum(seconds.values())},
        how=how_obtained(recipe, conductance_map, found),
        recipe=recipe.model_dump(mode="json"),
        versions=folder.versions,
    )


def _layer(layer: LayerMap, read_error: float, adcs: Resolution) -> Layer:
    rows, cols = layer.matrix_shape
    shape = (layer.codes.shape[-2], layer.codes.shape[-1])
    group = torch.ones(rows // layer.groups, cols // layer.groups)
    dense = torch.block_diag(*[group] * layer.groups)
    return Layer(
        kind="conv2d" if layer.kind == "conv2d" else "linear",
        rows=rows,
        cols=cols,
        weights_dense=int(torch.count_nonzero(dense)),
        weights_kept=int(torch.count_nonzero(layer.mask)),
        tiles_dense=tile_count(dense, shape, layer.groups),
        tiles_kept=layer.tiles,
        adc_bits=adcs.widest,
        read_error=read_error,
    )


def _compression(
    layers: dict[str, Layer], conductance_map: ConductanceMap, pruned: dict[str, Any], readout: Readout
) -> Compression:
    weights = [sum(getattr(layer, f"weights_{which}") for layer in layers.values()) for which in _WHICH]
    tiles = [sum(getattr(layer, f"tiles_{which}") for layer in layers.values()) for which in _WHICH]
    arrays_dense = sum(
        layer.tiles_dense * polarities_unpruned(mapped) * mapped.slices
        for layer, mapped in zip(layers.values(), conductance_map.layers.values(), strict=True)
    )
    if pruned.get("ranks"):
        # Factors are not what the network began with.
        array = "x".join(str(lines) for lines in conductance_map.array_shape)
        tiles[0], weights[0] = pruned["sizes"]["tiles"][array]["dense"], pruned["sizes"]["weights"]["dense"]
        arrays_dense = tiles[0] * max(
            polarities_unpruned(mapped) * mapped.slices for mapped in conductance_map.layers.values()
        )
    return Compression(
        weights=weights[0] / weights[1],
        tiles=tiles[0] / tiles[1],
        weights_dense=weights[0],
        weights_kept=weights[1],
        tiles_dense=tiles[0],
        tiles_kept=tiles[1],
        arrays_dense=arrays_dense,
        arrays_kept=conductance_map.arrays(readout),
    )


_WHICH = ("dense", "kept")


def _spice(found: dict[str, Any]) -> Spice:
    return Spice(
        status=found["status"],
        reason=found["reason"],
        ngspice=found["ngspice"],
        tiles_checked=found["tiles_checked"],
        inputs_per_array=found["inputs"],
        tolerance=found["budget"],
        max_rel_error=found["max_error"],
        typical_rel_error=found["typical_error"],
        max_rel_error_of_largest=found["max_error_of_largest"],
        stations=[SpiceStation(**station) for station in found["stations"]],
        arrays=[
            SpiceArray(
                layer=array["layer"],
                tile=array["tile"],
                polarity=array["polarity"],
                cells=array["cells"],
                rel_error=array["error"],
                rel_error_of_largest=array["error_of_largest"],
            )
            for array in found["arrays"]
        ],
    )


def _cost(
    conductance_map: ConductanceMap, vectors: dict[str, int], readout: Readout, factored: Collection[str]
) -> Cost:
    card = load_cost_card()
    facts = chip_facts(conductance_map, vectors, readout)
    dense = dense_facts(conductance_map, vectors, readout, factored)
    chips = estimate_by_law(facts, card, readout)
    chip = chips[card.default_adc_law]
    whole = chip.total
    return Cost(
        card=card.name,
        area_mm2=chip.area_mm2,
        power_w=chip.power_w,
        energy_per_image_j=chip.energy_j,
        latency_s=chip.latency_s,
        images_per_s=chip.images_per_s,
        conversions_per_image=whole.conversions,
        area_mm2_by_part=whole.area_mm2,
        power_w_by_part=whole.power_w,
        energy_per_image_j_by_part=whole.energy_j,
        area_mm2_by_layer=_sums(chip.layers, "area_mm2"),
        power_w_by_layer=_sums(chip.layers, "power_w"),
        by_adc_law={
            law: LawCost(area_mm2=cost.area_mm2, power_w=cost.power_w, energy_per_image_j=cost.energy_j)
            for law, cost in chips.items()
        },
        saving={
            figure: _saving(dense, facts, card, readout, figure)
            for figure in ("area_mm2", "power_w", "energy_j")
        },
        routing_area=mean_area_fraction(
            routing(facts, dense_facts(conductance_map, vectors, readout)).values()
        ),
    )


def _saving(
    dense: ChipFacts, facts: ChipFacts, card: CostCard, readout: Readout, figure: str
) -> SavingShares:
    shared = saving(dense, facts, lambda chip: float(getattr(estimate(chip, card, readout), figure)))
    return SavingShares(dense=shared.before, kept=shared.after, parts=shared.parts)


def _sums(by_layer: dict[str, CostByPart], figure: str) -> dict[str, float]:
    return {name: sum(getattr(cost, figure).values()) for name, cost in by_layer.items()}

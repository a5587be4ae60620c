"""SAR and flash ADCs as ngspice transients against their behavioural models, from 1 to 10 bits.

    python benchmarks/spice_converters.py [--bits 1,2,3,4,5,6,7,8,9,10] [--reads 1000]

Each ADC is drawn once: SAR with 2 % mismatch of its unit capacitors and a comparator offset of 0.5 LSB, flash
with comparator offsets of 0.3 LSB (standard deviations). It converts

* random inputs over its range and 1 LSB beyond, and inputs 0.05 LSB beside thresholds: do the codes agree?
* random inputs with noise of 0.5 LSB, the same draws in circuit and model;
* currents through a transimpedance amplifier (gain 1e5, gain-bandwidth 1 GHz) and a sample-and-hold;
* a ramp of ``--density`` inputs per code and a sine: DNL, INL and ENOB (IEEE Std 1241).

Reads within 0.05 LSB of a threshold of the model are counted apart.
"""

import argparse
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from device_models.converters import (
    Ramp,
    code_density,
    draw_capacitors,
    flash,
    linearity,
    sar,
    sar_convert,
    sine_fit,
)
from spice_netlists import Amplifier, BitLine, FlashCircuit, SarCircuit, Timing, convert

MARGIN, NOISE = 0.05, 0.5
SAR = {"unit_capacitor_mismatch": 0.02, "comparator_offset": 0.5}


def draw(kind, bits):
    """Circuit, transfer curve, and the model that takes noise draws, of one ADC."""
    if kind == "sar":
        array, transfer = draw_capacitors(bits, 1, 1, "adc", **SAR), sar(bits, 1, 1, "adc", **SAR)
        circuit = SarCircuit.of(array.capacitors[0].numpy(), array.offset[0].item())
        return circuit, transfer, lambda x, n: sar_convert(x[:, None], array, NOISE, n[..., None])[:, 0]
    transfer = flash(bits, 1, 1, "adc", threshold_offset=0.3)
    circuit = FlashCircuit.of(transfer.thresholds[0].numpy())
    return circuit, transfer, lambda x, n: transfer.convert((x + NOISE * n)[:, None])[:, 0]


def compare(kind, bits, reads, density, workers):
    """One row of the table."""
    circuit, transfer, noisy = draw(kind, bits)
    levels, rng = transfer.thresholds[0].numpy(), np.random.default_rng(bits)

    def by_model(x):
        return transfer.convert(torch.from_numpy(x)[:, None])[:, 0].numpy()

    some = rng.choice(levels, min(reads // 4, len(levels)), replace=False)
    inputs = np.concatenate([rng.uniform(-1, 2**bits, reads), some - 1.01 * MARGIN, some + 1.01 * MARGIN])
    clear = np.abs(inputs[:, None] - levels).min(1) > MARGIN
    start = time.perf_counter()
    found = convert(circuit, inputs, workers=workers, title=f"{kind} {bits}")
    each = (time.perf_counter() - start) / len(inputs)
    equal = found.codes == by_model(inputs)

    draws = rng.standard_normal(circuit.noise_shape(reads))
    with_noise = convert(circuit, inputs[:reads], noise=NOISE * draws, workers=workers).codes
    expected = noisy(torch.from_numpy(inputs[:reads]), torch.from_numpy(draws)).numpy()

    front = BitLine(Amplifier(1e5, 1e9), 8e-6 / 15, 1e4)
    currents = inputs / front.gain(circuit.lsb)
    amplified = convert(circuit, currents, bit_line=front, timing=Timing(settle=10), workers=workers)

    count = density * (2**bits + 4)
    ramp = -2 + (np.arange(count) + 0.5) / density
    codes = torch.from_numpy(convert(circuit, ramp, workers=workers).codes)[:, None]
    samples = min(1024, max(256, 4 * 2**bits))
    angle = 2 * np.pi * 37 * np.arange(samples) / samples
    sine = 2 ** (bits - 1) - 0.5 + 0.45 * 2**bits * np.sin(angle + 0.1)
    tones = torch.from_numpy(convert(circuit, sine, workers=workers).codes)[:, None]
    enob = sine_fit(tones, 37 / samples).enob(bits).item()
    by_formula = sine_fit(torch.from_numpy(by_model(sine))[:, None], 37 / samples).enob(bits).item()
    if bits > 1:
        seen, true = code_density(codes, bits, Ramp(-2.0, 2.0**bits + 2)), linearity(transfer)
        dnl, inl = (
            f"{a.abs().max():.2f} / {b.abs().max():.2f}"
            for a, b in ((seen.dnl, true.dnl), (seen.inl, true.inl))
        )
    else:
        dnl = inl = "-"
    return (
        kind,
        str(bits),
        f"{np.count_nonzero(clear)}",
        f"{100 * equal[clear].mean():.2f}",
        f"{np.count_nonzero(~equal)} of {np.count_nonzero(~clear)}",
        f"{100 * (with_noise == expected).mean():.2f}",
        f"{100 * (amplified.codes == by_model(inputs))[clear].mean():.2f}",
        dnl,
        inl,
        f"{enob:.2f} / {by_formula:.2f}",
        f"{found.energy[:reads].mean() * 1e15:.3g}",
        f"{each * 1e3:.1f}",
    )


def main():
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", default="1,2,3,4,5,6,7,8,9,10")
    parser.add_argument("--kinds", default="sar,flash")
    parser.add_argument("--reads", type=int, default=1000)
    parser.add_argument("--density", type=int, default=2, help="inputs per code of the ramp")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    table = Table(title="ngspice / behavioural model; clear reads are 0.05 LSB or more from a threshold")
    columns = [
        "ADC",
        "bits",
        "clear reads",
        "% equal",
        "others that differ",
        "% equal, noisy",
        "% equal, amplified",
    ]
    for name in [*columns, "max |DNL|", "max |INL|", "ENOB", "energy fJ", "ms per read"]:
        table.add_column(name, justify="right")
    for kind in options.kinds.split(","):
        for bits in map(int, options.bits.split(",")):
            table.add_row(*compare(kind, bits, options.reads, options.density, options.workers))
            Console(stderr=True).print(f"{kind} {bits} bits done")
    Console(width=170).print(table)


if __name__ == "__main__":
    main()

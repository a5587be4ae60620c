"""An independent solution of arrays with non-linear cells: nodal analysis by Newton's method, nothing shared.

A circuit is a plain list of two-terminal elements between named nodes, each with its law as a NumPy function
of its voltage. A 1T1R cell is two elements with a node of its own in between. Dense matrices, one input at a
time.
"""

import numpy as np


def ohm(resistance):
    return lambda v: (v / resistance, 1 / resistance)


def sinh(g, alpha):
    return lambda v: (g * np.sinh(alpha * v) / alpha, g * np.cosh(alpha * v))


def transistor(gain, overdrive, modulation=0.0):
    """Gate a fixed voltage above the far terminal; with v < 0 the terminals swap and the overdrive grows."""

    def law(v):
        size = abs(v)
        over = overdrive if v >= 0 else overdrive + size
        if size < over:
            i, di = gain * (over * size - size**2 / 2), gain * (over - size + (0 if v >= 0 else size))
        else:
            i, di = gain * over**2 / 2, 0.0
        factor = 1 + modulation * size
        return np.copysign(i * factor, v), di * factor + modulation * i

    return law


class Circuit:
    """Elements between named nodes; ``fixed`` nodes have a known voltage, 0 ohm joins two nodes."""

    def __init__(self):
        self.elements, self.fixed, self.joined = [], {}, {}

    def node(self, name):
        while name in self.joined:
            name = self.joined[name]
        return name

    def wire(self, a, b, resistance):
        """From the fixed or earlier node ``a`` to the new node ``b``."""
        if resistance == 0:
            self.joined[b] = a
        elif np.isfinite(resistance):
            self.elements.append((a, b, ohm(resistance)))

    def add(self, a, b, law):
        self.elements.append((a, b, law))

    def solve(self, steps=200):
        """Return a function from a node's name to its voltage; raises if Newton's method does not settle."""
        elements = [(self.node(a), self.node(b), law) for a, b, law in self.elements]
        names = {n for a, b, _ in elements for n in (a, b)} - set(self.fixed)
        index = {name: k for k, name in enumerate(sorted(names, key=str))}
        x = np.zeros(len(index))

        def voltage(name):
            name = self.node(name)
            return self.fixed[name] if name in self.fixed else x[index[name]]

        def assemble():
            excess, matrix, largest = np.zeros(len(index)), np.zeros((len(index),) * 2), 0.0
            for a, b, law in elements:
                i, di = law(voltage(a) - voltage(b))
                largest = max(largest, abs(i))
                for n, sign in ((a, 1), (b, -1)):
                    if n in index:
                        excess[index[n]] += sign * i
                        for m, other in ((a, 1), (b, -1)):
                            if m in index:
                                matrix[index[n], index[m]] += sign * other * di
            return excess, matrix, largest

        excess, matrix, largest = assemble()
        for _ in range(steps):
            change, start = np.linalg.solve(matrix, -excess), x.copy()
            length = 1.0
            while True:
                x[:] = start + length * change
                new = assemble()
                if np.abs(new[0]).max() < np.abs(excess).max() or length < 1e-6:
                    break
                length /= 2
            excess, matrix, largest = new
            if np.abs(change).max() < 1e-13:
                return voltage
        raise AssertionError(f"the reference did not settle: {np.abs(excess).max()} A of {largest} A")


def crossbar(laws, voltages, senses=0.0, word_line=0.0, bit_line=0.0, driver=0.0, sense=0.0):
    """Build the array: word line i driven left of column 0, bit line j sensed below the last row.

    ``laws[i][j]`` is a law, a pair of laws in series (cell, access), or None for an absent cell.
    """
    rows, cols = len(laws), len(laws[0])
    word_line, bit_line = (np.broadcast_to(r, (rows, cols)) for r in (word_line, bit_line))
    driver, sense = np.broadcast_to(driver, rows), np.broadcast_to(sense, cols)
    voltages, senses = np.broadcast_to(voltages, rows), np.broadcast_to(senses, cols)
    circuit = Circuit()
    for i in range(rows):
        circuit.fixed["source", i] = voltages[i]
        circuit.wire(("source", i), ("word", i, 0), driver[i] + word_line[i, 0])
        for j in range(1, cols):
            circuit.wire(("word", i, j - 1), ("word", i, j), word_line[i, j])
    for j in range(cols):
        circuit.fixed["sense", j] = senses[j]
        circuit.wire(("sense", j), ("bit", rows - 1, j), sense[j] + bit_line[rows - 1, j])
        for i in range(rows - 2, -1, -1):
            circuit.wire(("bit", i + 1, j), ("bit", i, j), bit_line[i, j])
    for i in range(rows):
        for j in range(cols):
            law = laws[i][j]
            if isinstance(law, tuple):
                circuit.add(("word", i, j), ("middle", i, j), law[0])
                circuit.add(("middle", i, j), ("bit", i, j), law[1])
            elif law is not None:
                circuit.add(("word", i, j), ("bit", i, j), law)
    return circuit


def solve_crossbar(laws, voltages, **figures):
    """Return currents ``[cols]`` into the senses, and the node voltages ``[rows, cols]``."""
    rows, cols = len(laws), len(laws[0])
    at = crossbar(laws, voltages, **figures).solve()
    word = np.array([[at(("word", i, j)) for j in range(cols)] for i in range(rows)])
    bit = np.array([[at(("bit", i, j)) for j in range(cols)] for i in range(rows)])
    currents = np.zeros(cols)
    for j in range(cols):
        for i in range(rows):
            law = laws[i][j]
            if isinstance(law, tuple):
                currents[j] += law[0](word[i, j] - at(("middle", i, j)))[0]
            elif law is not None:
                currents[j] += law(word[i, j] - bit[i, j])[0]
    return currents, word, bit

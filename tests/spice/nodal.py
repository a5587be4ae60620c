"""A reference that shares nothing with the package: dense nodal analysis of one crossbar."""

import itertools

import numpy as np


def column_currents(g, voltages, word_line=0.0, bit_line=0.0, driver=0.0, sense=0.0):
    """Column currents [inputs, cols] for conductances [rows, cols] and voltages [inputs, rows].

    Wire figures broadcast as in Wires. Nodes that 0 ohm joins are contracted; infinite ohm is no branch.
    """
    rows, cols = g.shape
    word_line = np.broadcast_to(word_line, (rows, cols))
    bit_line = np.broadcast_to(bit_line, (rows, cols))
    driver, sense = np.broadcast_to(driver, (rows,)), np.broadcast_to(sense, (cols,))

    def source(i):
        return i

    def ground(j):
        return rows + j

    def drive_end(i):
        return rows + cols + i

    def sense_end(j):
        return 2 * rows + cols + j

    def word(i, j):
        return 2 * (rows + cols) + i * cols + j

    def bit(i, j):
        return 2 * (rows + cols) + rows * cols + i * cols + j

    branches = []  # node, node, ohm
    for i in range(rows):
        branches.append((source(i), drive_end(i), driver[i]))
        branches.append((drive_end(i), word(i, 0), word_line[i, 0]))
        branches += [(word(i, j - 1), word(i, j), word_line[i, j]) for j in range(1, cols)]
    for j in range(cols):
        branches.append((ground(j), sense_end(j), sense[j]))
        branches.append((sense_end(j), bit(rows - 1, j), bit_line[rows - 1, j]))
        branches += [(bit(i + 1, j), bit(i, j), bit_line[i, j]) for i in range(rows - 1)]
    for i, j in itertools.product(range(rows), range(cols)):
        branches.append((word(i, j), bit(i, j), 1 / g[i, j] if g[i, j] > 0 else np.inf))

    nodes = 2 * (rows + cols) + 2 * rows * cols
    root = list(range(nodes))  # contraction: the root of a terminal is always that terminal

    def find(a):
        while root[a] != a:
            a = root[a]
        return a

    for a, b, ohm in branches:
        if ohm == 0:
            low, high = sorted((find(a), find(b)))
            root[high] = low

    matrix = np.zeros((nodes, nodes))
    for a, b, ohm in branches:
        a, b = find(a), find(b)
        if a != b and np.isfinite(ohm):
            matrix[[a, b], [a, b]] += 1 / ohm
            matrix[[a, b], [b, a]] -= 1 / ohm
    fixed = np.arange(rows + cols)
    attached = np.isin(np.arange(nodes), fixed)
    for _ in range(nodes):
        attached |= (matrix[:, attached] != 0).any(axis=1)
    free = np.setdiff1d(np.flatnonzero(attached), fixed)
    potential = np.zeros((nodes, len(voltages)))
    potential[:rows] = voltages.T
    potential[free] = np.linalg.solve(
        matrix[np.ix_(free, free)], -matrix[np.ix_(free, fixed)] @ potential[fixed]
    )
    return -(matrix[rows : rows + cols] @ potential).T

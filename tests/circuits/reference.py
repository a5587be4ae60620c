"""An independent solution of the same network: nodal analysis as written on paper, sparse LU, nothing shared.

Every branch of the circuit is listed one by one with plain loops, so that rows, columns and ends can be
read off. Plain sparse LU in float64 is not always good enough to judge by: summing a conductance of 1e3 S
and one of 1e-9 S into a diagonal entry already loses digits. The matrix is therefore summed, and residuals
are refined, in extended precision (where the platform has it).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu


def segments(rows, cols, word_line, bit_line, driver=0.0, sense=0.0):
    """Resistances left of and below every cell, with driver and sense merged; numbers or arrays."""
    r_word = np.broadcast_to(np.asarray(word_line, dtype=float), (rows, cols)).copy()
    r_bit = np.broadcast_to(np.asarray(bit_line, dtype=float), (rows, cols)).copy()
    r_word[:, 0] += driver
    r_bit[-1, :] += sense
    return r_word, r_bit


def branches(g, r_word, r_bit):
    """List (node a, node b, conductance). Node order: word-line cells, bit-line cells, drivers, senses."""
    rows, cols = g.shape
    cells = rows * cols
    g, r_word, r_bit = (x.astype(np.longdouble) for x in (g, r_word, r_bit))

    def word(i, j):
        return i * cols + j

    def bit(i, j):
        return cells + i * cols + j

    found = []
    for i in range(rows):
        for j in range(cols):
            left = 2 * cells + i if j == 0 else word(i, j - 1)
            below = 2 * cells + rows + j if i == rows - 1 else bit(i + 1, j)
            found.append((left, word(i, j), 1 / r_word[i, j]))
            found.append((bit(i, j), below, 1 / r_bit[i, j]))
            found.append((word(i, j), bit(i, j), g[i, j]))
    return found


def solve(g, r_word, r_bit, drivers, senses, word_current=None, bit_current=None):
    """Node voltages (word, bit), each [rows, cols, n], for terminal voltages [rows, n], [cols, n] and
    injections.
    """
    rows, cols = g.shape
    cells = rows * cols
    a, b, c = (np.array(x) for x in zip(*branches(g, r_word, r_bit), strict=True))
    size = 2 * cells + rows + cols
    laplacian = sp.csc_array(
        (np.concatenate([c, c, -c, -c]), (np.concatenate([a, b, a, b]), np.concatenate([a, b, b, a]))),
        shape=(size, size),
    )
    inner = 2 * cells
    fixed = np.concatenate([np.asarray(drivers), np.asarray(senses)]).astype(np.longdouble)
    rhs = -(laplacian[:inner, inner:] @ fixed)
    if word_current is not None:
        rhs = rhs + np.concatenate([word_current.reshape(cells, -1), bit_current.reshape(cells, -1)])
    matrix = laplacian[:inner, :inner]
    lu = splu(
        sp.csc_matrix(matrix.astype(float)), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}
    )
    x = lu.solve(rhs.astype(float)).astype(np.longdouble)
    for _ in range(3):
        x = x + lu.solve((rhs - matrix @ x).astype(float))
    x = x.astype(float)
    return x[:cells].reshape(rows, cols, -1), x[cells:].reshape(rows, cols, -1)


def effective_conductance(g, word_line, bit_line, driver=0.0, sense=0.0):
    """Current into every sense per volt at every driver, [rows, cols], by one sparse LU."""
    g = np.asarray(g, dtype=float)
    rows, cols = g.shape
    r_word, r_bit = segments(rows, cols, word_line, bit_line, driver, sense)
    if rows <= cols:
        _, bit = solve(g, r_word, r_bit, np.eye(rows), np.zeros((cols, rows)))
        return (bit[-1] / r_bit[-1][:, None]).T
    # Fewer right-hand sides: by reciprocity, 1 V at a sense and the current out of every driver.
    word, _ = solve(g, r_word, r_bit, np.zeros((rows, cols)), np.eye(cols))
    return word[:, 0] / r_word[:, 0][:, None]

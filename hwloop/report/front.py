"""Which of several choices no other beats."""

from __future__ import annotations

from collections.abc import Sequence


def unbeaten(merits: Sequence[Sequence[float]]) -> list[bool]:
    """Return for each choice whether no other is as good in everything and better in something.

    Args:
        merits: of each choice, its figures of merit, larger is better; as many for all.
    """
    return [
        not any(other != mine and all(a >= b for a, b in zip(other, mine, strict=True)) for other in merits)
        for mine in merits
    ]

"""The contest's total score."""
from __future__ import annotations

from typing import Optional


def total_score(M: Optional[float], A: Optional[float], FID: Optional[float],
                S: Optional[float]) -> Optional[float]:
    """T of Eq. 8: M, A and S in percent (S may be negative), FID capped at 100 as in the contest.

    Returns None if a metric is None: a missing metric is never counted as zero.
    """
    if M is None or A is None or FID is None or S is None:
        return None
    return M / 100 * (0.2 * A + 0.3 * (0.5 * S + 50) + 0.5 * (100 - min(FID, 100)))

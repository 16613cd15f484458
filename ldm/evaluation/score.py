"""The contest's total score."""


def total_score(M, A, FID, S):
    """T of Eq. 8: M, A and S in percent (S may be negative), FID capped at 100 as the contest does.

    None for a number that could not be had makes T None as well: a missing number is never counted as zero.
    """
    if None in (M, A, FID, S):
        return None
    return M / 100 * (0.2 * A + 0.3 * (0.5 * S + 50) + 0.5 * (100 - min(FID, 100)))

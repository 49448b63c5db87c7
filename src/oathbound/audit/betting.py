"""Confidence limits for the mean of bounded values, valid for every distribution and every number of them.

Hedged capital intervals (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by
betting", J. R. Stat. Soc. B 86, section 4.4, theorem 3). Whoever bets against the true mean m can expect to
win nothing: with X_i in [0, 1] and a stake decided before X_i is seen, the capital

    K+(m) = prod_i 1 + s_i(m) (X_i - m),   0 <= s_i(m) <= c / m        K-(m), likewise, against X_i < m

is a martingale, and reaches 2 / alpha at any time with probability alpha / 2 at most (Ville 1939). The
interval is every m that neither bettor, alpha / 2 each, has made rich. The stakes are predictable plug-ins,
sqrt(2 log(2 / alpha) / (n v_{i-1})), cut at c / m and c / (1 - m), where v is the variance seen so far.
"""

from typing import Final

import numpy as np

from oathbound.audit.target import Floats

_BOLDNESS: Final = 0.9
"""c above: the most of a capital that one value can take. Near 1, because skewed values are the rule here."""

_HALVINGS: Final = 40


def betting_limits(values: Floats, *, alpha: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the lower and upper limits of the mean of every row of `values`, shape (rows, n), in [0, 1].

    The values of a row are independent with one mean; the limits hold for each row with probability
    1 - alpha, not for all rows at once. They do not depend on an order that the values came in: `rng`
    shuffles them, since an order by size would break the bet. What lies in [0, b] is divided by b first.

    K+ falls and K- rises with m, so each limit is found by halving, 40 times, and taken on the side that
    widens the interval; there is no grid of m. Raises `ValueError` for values outside [0, 1], none at all,
    or an `alpha` outside (0, 1).
    """
    if values.ndim != 2 or not values.size or not 0 < alpha < 1:  # noqa: PLR2004 - rows and values
        raise ValueError("limits need rows of at least one value, and an error rate between 0 and 1")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a value is not between 0 and 1")
    shuffled = rng.permuted(values, axis=1)
    stakes = _stakes(shuffled, alpha)
    lower = _lower(shuffled, stakes, alpha)
    upper = 1 - _lower(1 - shuffled, stakes, alpha)
    return lower, upper


def _stakes(values: Floats, alpha: float) -> Floats:
    """Return the stakes before they are cut; the first are for a mean of 1/2 and a variance of 1/4."""
    n = values.shape[1]
    seen = np.arange(1, n + 1)
    means = (0.5 + values.cumsum(axis=1)) / (seen + 1)
    variances = (0.25 + ((values - means) ** 2).cumsum(axis=1)) / (seen + 1)
    before = np.concatenate([np.full((len(values), 1), 0.25), variances[:, :-1]], axis=1)
    return np.asarray(np.sqrt(2 * np.log(2 / alpha) / (n * before)))


def _lower(values: Floats, stakes: Floats, alpha: float) -> Floats:
    """Return, of each row, the largest m (to 2^-40, from below) that K+ refutes; 0 if it refutes none."""
    refuted, open_ = np.zeros(len(values)), np.ones(len(values))
    for _ in range(_HALVINGS):
        m = (refuted + open_) / 2
        bets = np.minimum(stakes, _BOLDNESS / m[:, None])
        capital = np.log1p(bets * (values - m[:, None])).cumsum(axis=1).max(axis=1)
        rich = capital >= np.log(2 / alpha)
        refuted, open_ = np.where(rich, m, refuted), np.where(rich, open_, m)
    return refuted

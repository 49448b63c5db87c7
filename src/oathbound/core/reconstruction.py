"""What a finding shows of reconstructed recordings, in words."""

from oathbound.core.finding import Reconstruction
from oathbound.core.pooling import FEWEST_HITS, controlled


def found_in(measure: Reconstruction) -> str:
    """Return of how many patients a recording was found, threat by threat, with chance beside it."""
    seen = [("a patient's bare gradient", measure.bare), ("the sum of a step", measure.summed)]
    if measure.noised is not None:
        seen.append(("that sum clipped and noised", measure.noised))
    counts = ", ".join(f"{_about(count, measure.members)} in {where}" for where, count in seen)
    guessed = f"guessing finds {float(measure.chance * measure.members):.3g}"
    control = "" if controlled(measure) else "; the attack fails on bare gradients, so this shows nothing"
    return f"{counts}; {guessed}, of {measure.members}{control}"


def _about(count: int, members: int) -> str:
    if count == 0:
        return f"fewer than {FEWEST_HITS}"
    return f"all but fewer than {FEWEST_HITS}" if count == members else f"about {count}"

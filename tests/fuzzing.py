"""How many examples a fuzzing test takes: few in the suite, many under the profile `fuzz`."""

from __future__ import annotations

from hypothesis import settings

_USUAL = 100  # of Hypothesis, where no profile says otherwise


def n_examples(in_the_suite: int) -> int:
    """`in_the_suite`, or what a profile says (`fuzz` in tests/conftest.py)."""
    given = settings().max_examples
    return in_the_suite if given == _USUAL else given

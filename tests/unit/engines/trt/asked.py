"""What tests ask of a plan on the fake GPU."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def expected(plan: Any, waves: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    result: dict[str, NDArray[np.float32]] = plan.module.compute(waves)
    return result


def calls(plan: Any, *names: str) -> list[Any]:
    return [entry for entry in plan.driver.log if entry[0] in names]


def refused(plan: Any, error: type[Exception], message: str, **options: Any) -> str:
    """Opening fails with the message and leaves nothing; gives the fix."""
    with pytest.raises(error, match=message) as raised:
        plan.open(**options)
    fix = str(getattr(raised.value, "fix", ""))
    raised.value.__traceback__ = None
    del raised
    gc.collect()
    assert plan.left() == {}
    return fix

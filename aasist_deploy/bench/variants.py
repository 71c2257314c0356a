"""What is measured: a model, the backend that runs it, and the precision that is asked of that.

A variant is written MODEL@BACKEND:PRECISION; backend and precision may be left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.engines import check_backend
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Backends that compute one file in a precision that is chosen when it is opened. In the others
# the precision is the file's.
CHOOSES_PRECISION: Final = ("openvino",)
OPEN_ENGINE: Final = "aasist_deploy.engines:open_engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A variant as a user writes it.

    Attributes:
        model: File or name.
        backend: A name in `BACKENDS`, or None for the one that opens such files.
        precision: What the backend is asked for, or None for its default.
    """

    model: str
    backend: str | None = None
    precision: str | None = None

    @property
    def label(self) -> str:
        """The variant in one word: the file's name, backend and precision."""
        name = Path(self.model).name
        backend = "" if self.backend is None else f"@{self.backend}"
        return f"{name}{backend}" + ("" if self.precision is None else f":{self.precision}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A variant that can be opened.

    Attributes:
        label: Its name in tables.
        path: The model file.
        backend: What runs it.
        precision: What the backend is asked for, or None.
        options: Of the opener, besides the path and `backend`; plain JSON types.
        opener: "module:function" that returns an engine; it is called in a process of its own, as
            function(path, backend=backend, **options).
    """

    label: str
    path: Path
    backend: str
    precision: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    opener: str = OPEN_ENGINE


def parse_spec(text: str) -> Spec:
    """MODEL[@BACKEND[:PRECISION]]; a file whose name is the whole text wins.

    Raises:
        UsageError: an unknown backend, or nothing where a name should be.
    """
    model, at, rest = text.rpartition("@")
    if not at or Path(text).exists():
        return Spec(model=text)
    backend, precision = _backend_and_precision(rest, text)
    if not model:
        raise UsageError(f"'{text}' names no model.", fix="write MODEL@BACKEND:PRECISION")
    return Spec(model=model, backend=backend, precision=precision)


def combinations(
    models: Sequence[str], backends: Sequence[str] = (), precisions: Sequence[str] = ()
) -> list[Spec]:
    """All variants of a run, in the order given, each once.

    Args:
        models: MODEL[@BACKEND[:PRECISION]]; one that names its backend is measured on that alone.
        backends: BACKEND[:PRECISION], for every other model.
        precisions: For every backend that can choose its precision and has none of its own; where
            no backend is given, such a backend is meant.

    Raises:
        UsageError: an unknown backend; a precision that no backend of the run can be asked for.
    """
    if precisions and not backends:
        backends = CHOOSES_PRECISION
    chosen = [_backend_and_precision(text, text) for text in backends]
    found: dict[Spec, None] = {}
    for spec in map(parse_spec, models):
        pairs: list[tuple[str | None, str | None]] = [(spec.backend, spec.precision)]
        if spec.backend is None and chosen:
            pairs = list(chosen)
        for backend, precision in pairs:
            open_choice = backend in CHOOSES_PRECISION and precision is None and precisions
            for one in precisions if open_choice else (precision,):
                found[Spec(model=spec.model, backend=backend, precision=one)] = None
    if precisions and not any(spec.precision in precisions for spec in found):
        raise UsageError(
            f"--precision {','.join(precisions)} is for the backend "
            f"{', '.join(CHOOSES_PRECISION)}, which is not in this run.",
            fix="--backend openvino; on other backends the precision is the file's: "
            "aasist-deploy export --precision",
        )
    return list(found)


def _backend_and_precision(text: str, whole: str) -> tuple[str, str | None]:
    backend, colon, precision = text.partition(":")
    check_backend(backend)
    if colon and not precision:
        raise UsageError(f"'{whole}' ends where a precision should be.", fix="for example :bf16")
    if precision and backend not in CHOOSES_PRECISION:
        raise UsageError(
            f"'{whole}' asks the backend {backend} for {precision}; it computes in the precision "
            f"of the file.",
            fix="export the model in that precision, or use openvino",
        )
    return backend, precision or None

"""What the server's JSON holds; /openapi.json is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from aasist_deploy.pipeline import ScoredFile

OPENAPI_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            },
            "audio/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


class FileAnswer(BaseModel):
    """What became of one file; `score` is null where `error` says why."""

    file: str = Field(description="Its name as the client gave it, without folders.")
    status: int = Field(description="HTTP status of this file alone.")
    score: float | None = Field(description="Higher: more likely bona fide.")
    llr: float | None = Field(description="Log-likelihood ratio in nats, of a calibrated model.")
    p_spoof: float | None = Field(description="Probability of spoof at a prior of 0.5; as llr.")
    seconds: float | None = Field(description="Duration of the file's audio.")
    error: str | None = Field(description="Why there is no score.")
    note: str | None = Field(description="What the decoder had to say.")
    resampled: bool = Field(description="The file had another sample rate than the model.")
    tiled: bool = Field(description="It was shorter than a window and was repeated.")
    cut: bool = Field(description="Only its start was scored.")
    window_scores: list[float] = Field(description="Of every window, when asked for.")

    @classmethod
    def of(cls, row: ScoredFile, status: int, *, window_scores: bool) -> FileAnswer:
        """From a row of the pipeline."""
        return cls(
            file=str(row.path),
            status=status,
            score=row.score,
            llr=row.llr,
            p_spoof=row.p_spoof,
            seconds=row.seconds,
            error=row.error,
            note=row.note,
            resampled=row.resampled,
            tiled=row.tiled,
            cut=row.cut,
            window_scores=list(row.window_scores) if window_scores and row.error is None else [],
        )


class ScoreAnswer(BaseModel):
    """Scores of the files of one request, in their order."""

    model: str = Field(description="Architecture.")
    score: str = Field(description="What a score is.")
    window: str = Field(description="Which part of each file was scored.")
    files: list[FileAnswer]


class Problem(BaseModel):
    """Why there are no scores."""

    error: str
    fix: str | None = None

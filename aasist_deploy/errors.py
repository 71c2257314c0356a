"""The exceptions of aasist-deploy: what happened, the values that disagree, and the fix.

    AasistDeployError                exit code 2
    ├── UsageError                   options that do not go together, an unknown name
    │   └── RecipeError              a recipe of training: an unknown key, a value that cannot be
    ├── ModelFileError               not a model, truncated, altered, or no contract
    │   └── CheckpointError          weights that do not fit the architecture
    ├── AudioError                   a file that cannot be decoded, or holds no usable samples
    ├── TrialsError                  a protocol, manifest or corpus folder
    ├── ScoresError                  a score file
    ├── MetricError                  trials from which a metric cannot be computed
    ├── ShapeError                   waves that do not fit the model's contract
    ├── OutputError                  a place that cannot be written
    ├── CheckFailed                  exit code 1: a parity gap or a limit that does not hold
    ├── TrainingError                exit code 1: training cannot go on, e.g. the loss is NaN
    │   └── PeerLostError            another process of the same training has ended
    └── EnvironmentLacks             exit code 3: a package, provider, device or network is missing
        └── DownloadError            the network or the mirror did not give the file

A caller that embeds the library needs one clause::

    try:
        engine = open_engine("model.onnx")
    except AasistDeployError as error:
        print(error, error.fix)
"""

from __future__ import annotations

from typing import ClassVar


class AasistDeployError(Exception):
    """Base of all errors that aasist-deploy raises on purpose.

    Args:
        message: What happened, with the values that disagree; one or two sentences.
        fix: What the user can do next, or None when the message says it all.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.fix = fix


class UsageError(AasistDeployError):
    """Options that do not go together, or a name that is not known."""


class RecipeError(UsageError):
    """A recipe has an unknown key, a value that cannot be, or values that do not go together."""


class ModelFileError(AasistDeployError):
    """The file is no model, is damaged or altered, or carries no contract."""


class CheckpointError(ModelFileError):
    """The weights do not fit the architecture or its configuration."""


class AudioError(AasistDeployError):
    """A file cannot be decoded, or what it holds cannot be scored."""


class TrialsError(AasistDeployError):
    """A protocol, a manifest or a corpus folder is not as it should be."""


class ScoresError(AasistDeployError):
    """A score file is not in a known layout, or does not fit its key."""


class MetricError(AasistDeployError):
    """The trials do not allow the metric, e.g. one class is missing."""


class ShapeError(AasistDeployError):
    """Waves do not fit the contract of the model."""


class OutputError(AasistDeployError):
    """A file or folder cannot be written."""


class CheckFailed(AasistDeployError):
    """A check that the user asked for does not hold."""

    exit_code: ClassVar[int] = 1


class TrainingError(AasistDeployError):
    """Training cannot go on or be resumed; what was saved before is kept."""

    exit_code: ClassVar[int] = 1


class PeerLostError(TrainingError):
    """Another process of the same training has ended; why, is for that one to say."""


class EnvironmentLacks(AasistDeployError):
    """A package, an execution provider, a device or the network is missing here."""

    exit_code: ClassVar[int] = 3


class DownloadError(EnvironmentLacks):
    """Neither the network nor the mirror gave the file."""

"""A network of your own: a class that you name, made with its configuration and tried once.

The class is an `nn.Module` made as `Class(config)` with a plain dict. Its `forward(wave)` takes
(B, N) float32 at 16 kHz and returns (embedding, logits) or logits alone: (B, 2), columns spoof and
bona fide. It may say of itself `n_samples`, `min_samples`, `any_length` and `score`, and its
`forward` may take `mask_filters`; the meaning is that of `Network`.

Code is run only when a caller names it. A file of weights records which code it was trained with,
as text and hash; what it records is never run.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import logging
import sys
import traceback
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from aasist_deploy.audio import N_SAMPLES
from aasist_deploy.contract import LOG_PROBABILITY_SCORE, LOGIT_SCORE
from aasist_deploy.errors import CheckpointError, UsageError
from aasist_deploy.models.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType, ModuleType

CUSTOM: Final = "custom"  # the architecture in the configuration of such a network
_KEYS: Final = {"architecture", "config", "n_samples", "code", "code_sha256"}
_SCORES: Final = (LOGIT_SCORE, LOG_PROBABILITY_SCORE)
_TRIED_WAVES: Final = 2

_log = logging.getLogger(__name__)


class CustomNetwork(Network):
    """A module of the user as a `Network`.

    Parameters, buffers and submodules have the names that they have in the user's module, here as
    in its state dict: this object shares its tables instead of holding it as a submodule.

    Args:
        module: The user's module.
        settings: What `build_model` makes the same network of.

    Raises:
        CheckpointError: what the module says of itself does not fit, or a trial run gives other
            shapes than those of a network.
    """

    architecture = CUSTOM
    _module: nn.Module

    def __init__(self, module: nn.Module, settings: Mapping[str, Any]) -> None:
        super().__init__()
        n_samples = settings.get("n_samples")
        if n_samples is None:
            n_samples = getattr(module, "n_samples", N_SAMPLES)
        self.n_samples = _positive("n_samples", n_samples)
        self.any_length = bool(getattr(module, "any_length", False))
        self._min_samples = self.n_samples
        if self.any_length:
            self._min_samples = _positive("min_samples", getattr(module, "min_samples", None))
        self.score = getattr(module, "score", LOGIT_SCORE)
        if self.score not in _SCORES:
            raise CheckpointError(
                f"The network says that its score is {self.score!r}; known are "
                f"{' and '.join(repr(score) for score in _SCORES)}."
            )
        self.settings = {**settings, "n_samples": self.n_samples}
        self._masks = "mask_filters" in inspect.signature(module.forward).parameters
        # Past nn.Module.__setattr__, which would register it and prefix every name.
        object.__setattr__(self, "_module", module)
        self._parameters = module._parameters  # noqa: SLF001
        self._buffers = module._buffers  # noqa: SLF001
        self._non_persistent_buffers_set = module._non_persistent_buffers_set  # noqa: SLF001
        self._modules = module._modules  # noqa: SLF001
        self.training = module.training
        self.n_features = self._try(self.n_samples)
        if self.any_length and self.min_samples != self.n_samples:
            self._try(self.min_samples)

    @property
    def min_samples(self) -> int:
        """The shortest wave that the network can be run on."""
        return self._min_samples

    def train(self, mode: bool = True) -> CustomNetwork:
        """Set training mode the way the user's module does it."""
        self._module.train(mode)
        self.training = mode
        return self

    def forward(self, wave: Tensor, *, mask_filters: bool = False) -> tuple[Tensor, Tensor]:
        """Score waves.

        Args:
            wave: (B, N) float samples at 16 kHz in [-1, 1].
            mask_filters: Handed on when the user's `forward` takes it, otherwise ignored.

        Returns:
            (B, n_features) embedding, which is the output where the module gives none, and (B, 2)
            output, columns spoof and bona fide.
        """
        options = {"mask_filters": True} if mask_filters and self._masks else {}
        given = self._module(wave, **options)
        if isinstance(given, Tensor):
            return given, given
        embedding, output = given
        return embedding, output

    def _try(self, n_samples: int) -> int:
        """Run two waves in evaluation mode and give the width of the embedding."""
        what = f"The network {type(self._module).__name__} given {_TRIED_WAVES} x {n_samples} waves"
        modes = [(m, m.training) for m in (self._module, *self._module.modules())]
        wave = 0.1 * torch.randn(
            _TRIED_WAVES, n_samples, generator=torch.Generator().manual_seed(0)
        )
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                self.eval()
                given = self._module(wave)
        except Exception as error:
            raise CheckpointError(
                f"{what} failed: {of_user(error)}.",
                fix="its forward takes (batch, samples) float32; n_samples says how many",
            ) from error
        finally:
            for module, mode in modes:
                module.training = mode
            self.training = self._module.training
        pair = (given, given) if isinstance(given, Tensor) else given
        if not (
            isinstance(pair, tuple | list)
            and len(pair) == 2
            and all(isinstance(part, Tensor) for part in pair)
        ):
            raise CheckpointError(
                f"{what} returned {_described(given)}.",
                fix="return (embedding, logits) or logits alone",
            )
        embedding, output = pair
        if output.shape != (_TRIED_WAVES, 2) or not output.is_floating_point():
            raise CheckpointError(
                f"{what} returned logits {_described(output)}, not ({_TRIED_WAVES}, 2) floats.",
                fix="return one column for spoof and one for bona fide, for each wave",
            )
        if embedding.ndim != 2 or len(embedding) != _TRIED_WAVES:
            raise CheckpointError(
                f"{what} returned an embedding {_described(embedding)}, not ({_TRIED_WAVES}, "
                f"features).",
                fix="return (embedding, logits) in this order",
            )
        return int(embedding.shape[1])


def custom_network(settings: Mapping[str, Any], code: str | None) -> CustomNetwork:
    """Run the named code and make its network.

    Raises:
        CheckpointError: no code is named, the constructor fails, or the network does not fit.
        UsageError: the code or its class cannot be found.
    """
    unknown = set(settings) - _KEYS
    config = settings.get("config", {})
    if unknown or not isinstance(config, dict):
        raise CheckpointError(
            f"The configuration of a custom network has the keys {', '.join(sorted(_KEYS))}, "
            f'"config" an object; given are {", ".join(sorted(map(str, settings)))}.'
        )
    recorded = settings.get("code")
    if code is None:
        says = f"; it was made with {recorded}" if recorded else ""
        raise CheckpointError(
            f"The network is not one of ours: the code of its class is needed{says}. Code is run "
            f"only when you name it.",
            fix=f"add --code {recorded or 'FILE.py:Class'} (in Python code=...), if you trust it",
        )
    made_by, digest = _load_class(code)
    if settings.get("code_sha256") not in (None, digest):
        _log.warning(
            "%s is not the code that the weights were made with (%s): its sha256 is %s, theirs %s",
            code, recorded, digest, settings["code_sha256"],
        )  # fmt: skip
    try:
        module = made_by(json.loads(json.dumps(config)))
    except Exception as error:
        raise CheckpointError(
            f"{code} cannot be made with its configuration: {of_user(error)}.",
            fix=f"it is called with one plain dict, here with the keys {sorted(config)}",
        ) from error
    return CustomNetwork(
        module,
        {**settings, "config": config, "code": code, "code_sha256": digest},
    )


def _load_class(code: str) -> tuple[type[nn.Module], str | None]:
    """The class that a text names, and the sha256 of the file it is in, if there is one."""
    where, _, name = code.rpartition(":")
    if not where or not name.isidentifier():
        raise UsageError(
            f"The code '{code}' names no class.", fix="write module:Class or path/to/file.py:Class"
        )
    try:
        module = _run_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise UsageError(
            f"The code {where} cannot be imported: {of_user(error)}.",
            fix="a module must be installed or on PYTHONPATH; a file is named with its .py",
        ) from error
    found = getattr(module, name, None)
    if found is None:
        classes = [
            n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, nn.Module)
        ]
        raise UsageError(
            f"{where} has no class {name}; its modules are: {', '.join(classes) or 'none'}."
        )
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise UsageError(f"{code} is no subclass of torch.nn.Module, but {_described(found)}.")
    source = Path(getattr(module, "__file__", None) or "")
    return found, sha256(source.read_bytes()).hexdigest() if source.is_file() else None


def _run_file(path: Path) -> ModuleType:
    """Import one file, once for each content; files beside it can be imported by it."""
    path = path.resolve()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"The code {path} cannot be read: {error.strerror}.", fix="check the path"
        ) from error
    name = f"aasist_deploy_custom_{sha256(bytes(path) + content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _SourceAsItIs(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.parent)
    sys.path.append(folder)
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(folder)
    return module


class _SourceAsItIs(SourceFileLoader):
    """Compiles what the file holds now.

    Python's cached bytecode is found by the file's size and its time to the second: an edit of one
    digit within a second of the last import would be missed.
    """

    def get_code(self, fullname: str) -> CodeType:
        """The code of the module, without a cache."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _positive(name: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise CheckpointError(
            f"The network's {name} is {value!r}; it must be a whole number of samples.",
            fix=f"set it in the constructor (self.{name} = ...)",
        )
    return value


def in_custom_network(error: BaseException) -> bool:
    """Whether an error was raised while a custom network was run."""
    return any(frame.filename == __file__ for frame in traceback.extract_tb(error.__traceback__))


def of_user(error: BaseException) -> str:
    """Type and first line of an error, and where in the user's code it was raised."""
    text = next(iter(str(error).splitlines()), "")
    ours = (__file__, "<frozen", torch.__path__[0], importlib.__path__[0])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(ours)
    ]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {', '.join(type(part).__name__ for part in value)}"
    return f"a {type(value).__name__}"

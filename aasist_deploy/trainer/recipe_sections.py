"""The sections of a recipe on data, loop, optimizer, schedule and run, and what goes together.

Everything is checked when it is made, before a corpus or a network is loaded. Defaults are those of
the published project (clovaai/aasist: config/AASIST.conf, main.py, utils.py) where it has the key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from aasist_deploy.errors import RecipeError
from aasist_deploy.trainer.recipe_values import at_least, positive, typed
from aasist_deploy.trials import dataset_names, dataset_splits

_WITHOUT_ASV: Final = ("manifest", "in-the-wild", "asvspoof5-t1", "asvspoof5-t2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The corpus, and how its clips become windows."""

    root: str | None = None
    """Folder of the corpus in its official layout, or a manifest; `--root` on the command line."""
    dataset: str = "asvspoof2019-la"
    """Kind of the corpus, as for `eval --dataset`."""
    train_split: str = "train"
    """Split to learn from; of a manifest a value of its column split, or "all"."""
    dev_split: str = "dev"
    """Split that the best epoch is chosen on; never the evaluation set."""
    crop_samples: int | None = None
    """Samples of a training window at 16 kHz, >= 1; left out: the model's own."""
    crop: Literal["random", "start"] = "random"
    """Which window of a longer clip: a random one each epoch, or the first."""
    cache: Literal["none", "memory", "disk"] = "none"
    """Where decoded audio is kept: in memory, on disk (2 bytes a sample where that is exact), or
    nowhere."""
    cache_dir: str | None = None
    """Folder of the cache on disk."""
    workers: int = 4
    """Processes that decode and augment beside the training, >= 0; the result does not depend on
    them."""
    limit_train: int | None = None
    """At most so many training trials, half of each class and evenly spaced, >= 2; for trying
    things out."""
    limit_dev: int | None = None
    """At most so many dev trials, likewise."""

    def __post_init__(self) -> None:
        """Check values and what goes together."""
        typed(self, "data")
        if self.dataset not in dataset_names():
            raise RecipeError(
                f"data.dataset is '{self.dataset}'; known are {', '.join(dataset_names())}."
            )
        for name in ("train_split", "dev_split"):
            split = getattr(self, name)
            if split == "eval":
                raise RecipeError(
                    f"data.{name} is 'eval': a model that has seen the evaluation set in training "
                    "or in the choice of its epoch cannot be evaluated on it.",
                    fix="take train and dev, or give the part a name of its own in a manifest",
                )
            if self.dataset != "manifest" and split not in dataset_splits(self.dataset):
                raise RecipeError(
                    f"data.{name} is '{split}'; {self.dataset} has "
                    f"{', '.join(dataset_splits(self.dataset))}."
                )
        at_least("data", self, crop_samples=1, workers=0, limit_train=2, limit_dev=2)
        if (self.cache == "disk") != (self.cache_dir is not None):
            raise RecipeError(
                f"data.cache is '{self.cache}' and data.cache_dir is "
                f"{self.cache_dir or 'left out'}.",
                fix='cache = "disk" and cache_dir go together',
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The loop: how long, on what, how the best epoch is chosen."""

    epochs: int = 100
    """Passes over the training split, >= 1."""
    batch_size: int = 24
    """Windows in a batch, of all processes together, >= 1."""
    accumulate: int = 1
    """Batches whose gradients are added before a step of the optimizer, >= 1."""
    class_weights: tuple[float, float] = (0.1, 0.9)
    """Weights of the cross-entropy for spoof and bona fide, > 0."""
    drop_last: bool = True
    """Leave out the last batch of an epoch when it is not full."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of forward and backward; bf16 by autocast, weights stay fp32."""
    tf32: bool = False
    """Let CUDA round the inputs of fp32 products to 10 bits of mantissa."""
    compile: bool = False
    """Compile the network with torch.compile."""
    channels_last: bool = False
    """Keep 2-D maps in channels-last order in memory."""
    clip_norm: float | None = None
    """Largest L2 norm of the gradient of all parameters, > 0; left out: not clipped."""
    ema_decay: float | None = None
    """Decay per step of a moving average of the weights, in (0, 1); left out: none."""
    swa: bool = True
    """Average the weights of the epochs that set a new best dev figure, as published."""
    freq_mask: bool = False
    """Zero a random band of the sinc filters in each batch ("freq_aug" as published)."""
    seed: int = 1234
    """Of weights, order, crops and augmentation, >= 0."""
    deterministic: bool = True
    """Use only kernels that give the same bits again; slower on a GPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What trains; auto: a GPU where there is one."""
    select: Literal["eer", "min_tdcf", "loss"] = "eer"
    """Dev figure whose lowest value makes the best epoch."""
    keep_last: int = 2
    """Checkpoints for resuming that are kept beside the best, >= 1."""
    eval_batch_size: int = 32
    """Windows scored together on dev, >= 1."""
    init: str | None = None
    """Checkpoint whose weights training starts from; loaded strictly."""
    freeze: tuple[str, ...] = ()
    """Patterns (as of file names) of the parameters that are not trained."""
    teacher: str | None = None
    """Checkpoint whose outputs the network also learns to repeat."""
    distill_weight: float = 0.5
    """Part of the teacher in the loss, in (0, 1]; it has no effect without a teacher."""
    distill_temperature: float = 2.0
    """What both outputs are divided by before they are compared, > 0."""

    def __post_init__(self) -> None:
        """Check values and what goes together."""
        typed(self, "training")
        at_least(
            "training", self, epochs=1, batch_size=1, accumulate=1, seed=0, keep_last=1,
            eval_batch_size=1,
        )  # fmt: skip
        positive("training", self, "clip_norm", "distill_temperature")
        if min(self.class_weights) <= 0:
            raise RecipeError(
                f"training.class_weights are {list(self.class_weights)}; both must be above 0."
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise RecipeError(
                f"training.ema_decay is {self.ema_decay}; it must be between 0 and 1."
            )
        if not 0 <= self.distill_weight <= 1:
            raise RecipeError(
                f"training.distill_weight is {self.distill_weight}; it must be 0 to 1."
            )
        if self.teacher is not None and self.distill_weight == 0:
            raise RecipeError(
                f"training.teacher is {self.teacher} and training.distill_weight is 0: the teacher "
                "would be run for nothing.",
                fix="give distill_weight a value above 0, or leave out the teacher",
            )
        if self.tf32 and self.device == "cpu":
            raise RecipeError(
                "training.tf32 is true and training.device is 'cpu', which has no TF32.",
                fix="leave out tf32, or train on cuda",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """How a gradient moves the weights."""

    name: Literal["adam", "adamw"] = "adam"
    """Adam with L2 in the gradient, as published, or AdamW with decay of its own."""
    lr: float = 1e-4
    """Learning rate at its highest, > 0."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the first and second moment, in [0, 1)."""
    weight_decay: float = 1e-4
    """L2 penalty (adam) or decay of the weights per unit of learning rate (adamw), >= 0."""
    amsgrad: bool = False
    """Divide by the largest second moment so far."""

    def __post_init__(self) -> None:
        """Check values."""
        typed(self, "optimizer")
        positive("optimizer", self, "lr")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"optimizer.betas are {list(self.betas)}; each must be in [0, 1).")
        if self.weight_decay < 0:
            raise RecipeError(
                f"optimizer.weight_decay is {self.weight_decay}; it must be 0 or more."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How the learning rate changes, step by step."""

    name: Literal["cosine", "constant"] = "cosine"
    """Half a cosine from `optimizer.lr` to `lr_min` over all steps, or no change."""
    lr_min: float = 5e-6
    """Learning rate at the end of the cosine, >= 0 and not above `optimizer.lr`."""
    warmup_steps: int = 0
    """Steps in which the rate first rises linearly, >= 0 and fewer than the run has."""

    def __post_init__(self) -> None:
        """Check values."""
        typed(self, "schedule")
        at_least("schedule", self, warmup_steps=0)
        if self.lr_min < 0:
            raise RecipeError(f"schedule.lr_min is {self.lr_min}; it must be 0 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is written while training."""

    save_every_steps: int | None = None
    """Save for resuming every so many steps too, >= 1; it is done after every epoch and every ten
    minutes anyway."""
    log_every_steps: int = 10
    """Write loss and learning rate to the log every so many steps, >= 1, and of the first and the
    last."""
    tensorboard: bool = True
    """Write the figures for TensorBoard too."""

    def __post_init__(self) -> None:
        """Check values."""
        typed(self, "run")
        at_least("run", self, save_every_steps=1, log_every_steps=1)


def check_together(
    data: Data, training: Training, optimizer: Optimizer, schedule: Schedule
) -> None:
    """Check what one section says against another.

    Raises:
        RecipeError: They do not go together.
    """
    if schedule.name == "cosine" and schedule.lr_min > optimizer.lr:
        raise RecipeError(
            f"schedule.lr_min is {schedule.lr_min} and optimizer.lr is {optimizer.lr}: the rate "
            "would rise.",
            fix="give lr_min a value not above lr",
        )
    if training.select == "min_tdcf" and data.dataset in _WITHOUT_ASV:
        raise RecipeError(
            f"training.select is 'min_tdcf', and {data.dataset} has no scores of a speaker "
            "verification system, which the t-DCF needs.",
            fix='select = "eer"',
        )

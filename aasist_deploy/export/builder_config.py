"""The builder's configuration: profiles, flags, limits and timing cache, each checked as it is set.

TensorRT reports a setting that it does not take by a message or by another value afterwards, not by
an exception; here each becomes an error.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.errors import ModelFileError, UsageError
from aasist_deploy.onnx_file import write_onnx_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aasist_deploy.engines.tensorrt_runtime import TensorRt
    from aasist_deploy.export.plan_options import BuildOptions
    from aasist_deploy.export.tensorrt_network import Network
    from aasist_deploy.plan_file import Profile

log = logging.getLogger(__name__)

_MIB: Final = 2**20


def builder_config(
    network: Network, tensorrt: TensorRt, profiles: Iterable[Profile], options: BuildOptions
) -> Any:  # noqa: ANN401  # TensorRT has no types
    """A configuration for this network.

    Args:
        network: The parsed network, whose only input is (batch, samples).
        tensorrt: The TensorRT that it belongs to.
        profiles: (smallest, optimal, largest) batches.
        options: Everything else.

    Raises:
        UsageError: this TensorRT does not take an option.
        ModelFileError: it does not take a profile.
    """
    module = tensorrt.module
    config: Any = network.builder.create_builder_config()
    for profile in profiles:
        _add_profile(config, network, tensorrt, profile)
    flags = module.BuilderFlag
    _set_flag(config, flags.TF32, wanted=options.tf32)
    _set_flag(config, flags.VERSION_COMPATIBLE, wanted=options.version_compatible)
    _set_flag(config, flags.REFIT, wanted=options.refittable)
    if options.detailed:
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
        taken = config.builder_optimization_level
        _check(tensorrt, "--builder-level", options.optimization_level, taken)
    if options.workspace_mib is not None:
        wanted, pool = options.workspace_mib * _MIB, module.MemoryPoolType.WORKSPACE
        config.set_memory_pool_limit(pool, wanted)
        taken = config.get_memory_pool_limit(pool)
        _check(tensorrt, "--workspace-mib", options.workspace_mib, taken // _MIB)
    _set_hardware(config, tensorrt, options)
    if options.timing_cache is not None:
        _use_timing_cache(config, tensorrt, options)
    return config


def keep_timing_cache(config: Any, options: BuildOptions, tensorrt: TensorRt) -> None:  # noqa: ANN401
    """Write what the builder measured back to the file of the options.

    Raises:
        OutputError: the file cannot be written.
    """
    if options.timing_cache is None:
        return
    cache = config.get_timing_cache()
    serialized = None if cache is None else cache.serialize()
    if serialized is None:
        log.warning("%s gave no timing cache to write.", tensorrt.title)
        return
    write_onnx_file(options.timing_cache, bytes(serialized))


def _add_profile(config: Any, network: Network, tensorrt: TensorRt, profile: Profile) -> None:  # noqa: ANN401
    wave = network.definition.get_input(0)
    n_samples = int(wave.shape[1])
    made = network.builder.create_optimization_profile()
    text = ",".join(map(str, profile))
    try:
        made.set_shape(wave.name, *((batch, n_samples) for batch in profile))
        index = config.add_optimization_profile(made) if made else -1
    except (RuntimeError, ValueError) as error:
        raise ModelFileError(
            f"{tensorrt.title} does not take the profile {text}: {error}."
        ) from error
    if index < 0:
        raise ModelFileError(
            f"{tensorrt.title} does not take the profile {text}: {network.messages.said()}.",
            fix="give another --profile",
        )


def _set_flag(config: Any, flag: Any, *, wanted: bool) -> None:  # noqa: ANN401
    if wanted:
        config.set_flag(flag)
    else:
        config.clear_flag(flag)


def _set_hardware(config: Any, tensorrt: TensorRt, options: BuildOptions) -> None:  # noqa: ANN401
    """Which GPUs the plan is for: by default the present one alone."""
    module = tensorrt.module
    capabilities: Any = getattr(module, "ComputeCapability", None)
    if options.hardware_compatible and tensorrt.name == "tensorrt":
        config.hardware_compatibility_level = module.HardwareCompatibilityLevel.AMPERE_PLUS
        return
    # TensorRT-RTX has no such level: a plan for which no capability is named runs on all.
    if capabilities is None or options.hardware_compatible:
        return
    if not options.for_sm and tensorrt.name == "tensorrt":
        return  # the present GPU is what it builds for anyway
    names = [f"SM{sm.replace('.', '')}" for sm in options.for_sm] or ["CURRENT"]
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        capability = getattr(capabilities, name, None)
        if capability is None or not config.set_compute_capability(capability, index):
            known = ", ".join(sorted(n[2:] for n in dir(capabilities) if n.startswith("SM")))
            raise UsageError(
                f"{tensorrt.title} cannot build for the compute capability "
                f"{name.removeprefix('SM')}; it knows {known}.",
                fix="choose among these, or build on the GPU itself",
            )


def _use_timing_cache(config: Any, tensorrt: TensorRt, options: BuildOptions) -> None:  # noqa: ANN401
    if tensorrt.name == "tensorrt_rtx":
        raise UsageError(
            f"{tensorrt.title} measures no kernels when it builds, and has no timing cache.",
            fix="leave out --timing-cache",
        )
    path = options.timing_cache
    assert path is not None
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UsageError(f"The timing cache {path} cannot be read: {error.strerror}.") from error
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):  # ignore_mismatch
        raise UsageError(
            f"The timing cache {path} is damaged, or of another GPU or version than "
            f"{tensorrt.title}.",
            fix="name another file: --timing-cache new.cache",
        )


def _check(tensorrt: TensorRt, option: str, wanted: int, taken: int) -> None:
    if taken != wanted:
        raise UsageError(f"{tensorrt.title} takes {taken} for {option} {wanted}.")

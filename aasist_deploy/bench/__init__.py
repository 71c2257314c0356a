"""How fast models are on this machine, beside one another and beside what the hardware can do.

from aasist_deploy.bench import Settings, Variant, machine, measure, results_of

run = measure([Variant(label="aasist", path=path, backend="onnx")], Settings(threads=2))
results = results_of(run, settings, machine=machine(), command="")
"""

from aasist_deploy.bench.machine import machine
from aasist_deploy.bench.measuring import Measured, Run, Settings, Turns, measure, n_steps
from aasist_deploy.bench.ratios import BENCH_SCHEMA, Ratio, check_same_machine, read_earlier
from aasist_deploy.bench.results import results_of
from aasist_deploy.bench.variants import Spec, Variant, combinations, parse_spec

__all__ = [
    "BENCH_SCHEMA",
    "Measured",
    "Ratio",
    "Run",
    "Settings",
    "Spec",
    "Turns",
    "Variant",
    "check_same_machine",
    "combinations",
    "machine",
    "measure",
    "n_steps",
    "parse_spec",
    "read_earlier",
    "results_of",
]

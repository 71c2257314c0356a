"""Datasets: which utterances there are, where their audio lies, and which of them are spoofed.

One file for each family of datasets; `load_dataset` knows them by name, `read_key` reads the
truth alone from a protocol or key of any of them. Layouts on disk: docs/datasets.md.
"""

from aasist_deploy.trials._registry import (
    dataset_names,
    dataset_splits,
    default_split,
    load_dataset,
)
from aasist_deploy.trials._types import (
    NO_ATTACK,
    Conditions,
    Dataset,
    Label,
    MetricFamily,
    ProtocolEntry,
    Trial,
)
from aasist_deploy.trials.asvspoof5 import (
    parse_protocol_5_track_1,
    parse_protocol_5_track_2,
)
from aasist_deploy.trials.asvspoof2019 import parse_protocol_2019
from aasist_deploy.trials.asvspoof2021 import parse_metadata_2021
from aasist_deploy.trials.keys import read_key

__all__ = [
    "NO_ATTACK",
    "Conditions",
    "Dataset",
    "Label",
    "MetricFamily",
    "ProtocolEntry",
    "Trial",
    "dataset_names",
    "dataset_splits",
    "default_split",
    "load_dataset",
    "parse_metadata_2021",
    "parse_protocol_5_track_1",
    "parse_protocol_5_track_2",
    "parse_protocol_2019",
    "read_key",
]

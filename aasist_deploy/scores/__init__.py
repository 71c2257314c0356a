"""Score files in and out: the ASVspoof text layouts, and the CSV and JSONL that `score` writes.

A score file says nothing of what it means: higher must be more bona fide, and nothing here turns
scores round. What cannot be read for certain is refused with the line and the known layouts
(docs/score-files.md).
"""

from aasist_deploy.scores._asv import AsvScores, read_asv_scores, read_asv_scores_2021
from aasist_deploy.scores._convert import Conversion, convert_sasv_scores, convert_scores
from aasist_deploy.scores._output import (
    FileRow,
    RowColumns,
    RowFormat,
    RowLines,
    RowWriter,
    format_of,
    open_parquet,
    open_rows,
    require_pyarrow,
)
from aasist_deploy.scores._sasv import SasvScores, read_sasv_scores, write_sasv_scores
from aasist_deploy.scores._table import (
    LabelledUtterance,
    ScoreTable,
    condition_columns,
    read_scores,
    speaker_column,
)
from aasist_deploy.scores._writing import ScoreLayout, ScoreRow, write_scores, write_scores_txt

__all__ = [
    "AsvScores",
    "Conversion",
    "FileRow",
    "LabelledUtterance",
    "RowColumns",
    "RowFormat",
    "RowLines",
    "RowWriter",
    "SasvScores",
    "ScoreLayout",
    "ScoreRow",
    "ScoreTable",
    "condition_columns",
    "convert_sasv_scores",
    "convert_scores",
    "format_of",
    "open_parquet",
    "open_rows",
    "read_asv_scores",
    "read_asv_scores_2021",
    "read_sasv_scores",
    "read_scores",
    "require_pyarrow",
    "speaker_column",
    "write_sasv_scores",
    "write_scores",
    "write_scores_txt",
]

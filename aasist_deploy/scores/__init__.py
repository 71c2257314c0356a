"""Score files in and out: the ASVspoof text layouts, and the CSV and JSONL that `score` writes.

A score file says nothing of what it means: higher must be more bona fide, and nothing here turns
scores round. What cannot be read for certain is refused with the line and the known layouts.
"""

from aasist_deploy.scores._asv import AsvScores, read_asv_scores
from aasist_deploy.scores._output import RowFormat, RowWriter, format_of, open_rows
from aasist_deploy.scores._table import LabelledUtterance, ScoreTable, read_scores
from aasist_deploy.scores._writing import ScoreRow, write_scores_txt

__all__ = [
    "AsvScores",
    "LabelledUtterance",
    "RowFormat",
    "RowWriter",
    "ScoreRow",
    "ScoreTable",
    "format_of",
    "open_rows",
    "read_asv_scores",
    "read_scores",
    "write_scores_txt",
]

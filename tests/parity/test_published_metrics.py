"""Figures that the official ASVspoof packages give for public score files, to the last digit.

Golden numbers: the packages' own output for these files and the ASV scores of the corpus.
"""

from __future__ import annotations

import csv
import gzip
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from aasist_deploy.metrics import (
    Bootstrap,
    MetricsSummary,
    compare_tables,
    confidence,
    summarize,
    summarize_sasv,
)
from aasist_deploy.scores import ScoreTable, read_asv_scores, read_scores
from aasist_deploy.trials import load_dataset, parse_protocol_2019

if TYPE_CHECKING:
    from pathlib import Path

    from aasist_deploy.metrics import Compat, SasvSummary

N_BONAFIDE, N_SPOOF = 7_355, 63_882
# Without ties the two modes differ by at most a quarter of the larger step; these files have few.
CORRECTED_ATOL_PERCENT = 100 / (4 * N_BONAFIDE)  # 0.0034; measured max 0.0026
CORRECTED_ATTACK_ATOL_PERCENT = 100 / (4 * 4_914)  # 0.0051; measured max 0.0040
CORRECTED_TDCF_ATOL = 5e-10  # measured equal in all printed digits


class Published(NamedTuple):
    name: str
    reversed: bool
    eer_percent: str
    min_tdcf: str


PUBLISHED = [
    Published("AASIST", False, "0.829511226", "0.027529478"),
    Published("RawGAT-ST_mul", False, "1.060134752", "0.033538947"),
    Published("LFCC_ResNet_ocsoftmax.reversed", True, "2.177986920", "0.055816006"),
    Published("B01_CQCC_GMM", False, "9.572028207", "0.235936070"),
]
all_files = pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)


def asv_scores_file(shared: Path) -> Path:
    dataset = load_dataset("asvspoof2019-la", shared / "data" / "LA_mini", "eval")
    assert dataset.asv_scores is not None
    return dataset.asv_scores


def table_of(shared: Path, published: Published) -> ScoreTable:
    table = read_scores(shared / "data" / "scores" / f"{published.name}.LA.eval.txt.gz")
    return table.negated() if published.reversed else table


def expected_by_attack(shared: Path) -> dict[str, str]:
    text = (shared / "data" / "scores" / "AASIST.expected.txt").read_text()
    return dict(re.findall(r"EER (A\d\d)\s*= ([\d.]+) %", text))


@all_files
def test_official_mode_gives_the_published_figures_to_the_last_digit(
    shared: Path, published: Published
) -> None:
    asv = read_asv_scores(asv_scores_file(shared))
    result = summarize(table_of(shared, published), asv, compat="official")
    assert f"{result.eer.eer * 100:.9f}" == published.eer_percent
    assert result.min_tdcf_2019 is not None
    assert f"{result.min_tdcf_2019.value:.9f}" == published.min_tdcf
    assert (result.n_bonafide, result.n_spoof) == (N_BONAFIDE, N_SPOOF)
    assert not result.polarity.reversed


def test_official_mode_gives_the_published_figures_of_each_attack(shared: Path) -> None:
    result = summarize(table_of(shared, PUBLISHED[0]), compat="official")
    expected = expected_by_attack(shared)
    assert len(expected) == 13
    assert {name: f"{of.eer.eer * 100:.9f}" for name, of in result.attacks.items()} == expected


@all_files
def test_corrected_mode_stays_within_a_quarter_of_a_step(
    shared: Path, published: Published
) -> None:
    asv = read_asv_scores(asv_scores_file(shared))
    table = table_of(shared, published)
    official = summarize(table, asv, compat="official")
    corrected = summarize(table, asv)
    assert corrected.min_tdcf_2019 is not None
    assert corrected.eer.eer * 100 == pytest.approx(
        float(published.eer_percent), abs=CORRECTED_ATOL_PERCENT
    )
    assert corrected.min_tdcf_2019.value == pytest.approx(
        float(published.min_tdcf), abs=CORRECTED_TDCF_ATOL
    )
    assert _rates(corrected) == pytest.approx(_rates(official), abs=CORRECTED_ATTACK_ATOL_PERCENT)


def test_reversed_file_is_told_and_not_turned_round(shared: Path) -> None:
    table = read_scores(
        shared / "data" / "scores" / "LFCC_ResNet_ocsoftmax.reversed.LA.eval.txt.gz"
    )
    result = summarize(table, compat="official")
    assert result.polarity.reversed
    assert f"{result.polarity.negated_eer * 100:.9f}" == "2.177986920"
    assert result.eer.eer > 0.97


@all_files
def test_score_files_agree_with_the_full_protocol(shared: Path, published: Published) -> None:
    folder = shared / "data" / "ASVspoof2019_LA_full"
    protocol = parse_protocol_2019(folder / "ASVspoof2019.LA.cm.eval.trl.txt.gz")
    path = shared / "data" / "scores" / f"{published.name}.LA.eval.txt.gz"
    table, joined = read_scores(path), read_scores(path, protocol)
    # Bona fide trials have the attack "-" or, in one file, "A00"; neither counts as an attack.
    assert summarize(table).attacks == summarize(joined).attacks
    assert len(joined.utterances) == N_BONAFIDE + N_SPOOF


@pytest.mark.parametrize(("split", "n"), [("train", 278), ("dev", 105), ("eval", 29)])
def test_small_corpus_loads_with_all_its_audio(shared: Path, split: str, n: int) -> None:
    dataset = load_dataset("asvspoof2019-la", shared / "data" / "LA_mini", split)
    assert len(dataset.trials) == n
    dataset.require_audio()
    assert (dataset.asv_scores is None) == (split == "train")


def test_published_scores_separate_the_small_evaluation(shared: Path) -> None:
    root = shared / "data" / "LA_mini"
    dataset = load_dataset("asvspoof2019-la", root, "eval")
    table = read_scores(root / "published_scores.AASIST.eval.txt", dataset.trials)
    result = summarize(table)
    assert result.eer.eer == 0.0
    assert 0.74 < result.eer.threshold < 3.31


def test_official_mode_gives_the_figures_of_asvspoof_5_track_1(shared: Path) -> None:
    result = summarize(table_of(shared, PUBLISHED[0]), compat="official")
    assert f"{result.min_dcf.value:.9f}" == "0.023858744"
    assert f"{result.act_dcf.value:.9f}" == "0.071014406"
    assert f"{result.cllr_bits:.9f}" == "0.091496817"
    assert f"{result.eer.eer * 100:.9f}" == "0.829511226"
    assert f"{result.act_dcf.threshold:.3f}" == "-0.642"


def test_corrected_mode_gives_the_same_track_1_figures_where_nothing_ties(shared: Path) -> None:
    result = summarize(table_of(shared, PUBLISHED[0]))
    assert f"{result.min_dcf.value:.9f}" == "0.023858744"
    assert result.min_cllr_bits < result.cllr_bits


def sasv_summary(shared: Path, compat: Compat) -> SasvSummary:
    folder = shared / "data" / "asvspoof5"
    key, scores = (
        {(row["spk"], row["filename"]): row for row in _tsv(folder / f"t2_sasv_{name}_dev.tsv.gz")}
        for name in ("key", "score")
    )
    assert key.keys() == scores.keys()
    columns = {
        name: np.array([float(row[name]) for row in scores.values()])
        for name in ("cm-score", "asv-score", "sasv-score")
    }
    return summarize_sasv(
        [key[pair]["asv-label"] for pair in scores],
        sasv_scores=columns["sasv-score"],
        cm_scores=columns["cm-score"],
        asv_scores=columns["asv-score"],
        compat=compat,
    )


def test_official_mode_gives_the_figures_of_asvspoof_5_track_2(shared: Path) -> None:
    result = sasv_summary(shared, "official")
    assert result.a_dcf is not None
    assert result.t_eer is not None
    assert result.min_tdcf_2021 is not None
    assert f"{result.a_dcf.value:.9f}" == "0.156670200"
    assert f"{result.t_eer * 100:.9f}" == "1.989698829"
    assert f"{result.min_tdcf_2021.value:.9f}" == "0.102424330"
    assert (result.n_target, result.n_nontarget, result.n_spoof) == (1_484, 5_768, 22_296)


def test_corrected_mode_of_track_2_differs_in_the_t_eer_alone(shared: Path) -> None:
    result = sasv_summary(shared, "corrected").to_dict()
    assert f"{result['min_a_dcf']:.9f}" == "0.156670200"
    assert f"{result['min_tdcf_2021']:.9f}" == "0.102424330"
    assert f"{result['t_eer_percent']:.9f}" == "1.973151220"


def test_form_of_2021_has_the_bound_that_the_official_package_names(shared: Path) -> None:
    # Its summary says: "the normalized t-DCF obtained with an error-free CM system", 0.06273.
    asv = read_asv_scores(asv_scores_file(shared))
    result = summarize(table_of(shared, PUBLISHED[0]), asv, compat="official").min_tdcf_2021
    assert result is not None
    assert f"{result.lowest_possible:.5f}" == "0.06273"
    assert f"{result.value:.9f}" == "0.088535354"


def test_intervals_of_published_scores_hold_the_published_figures(shared: Path) -> None:
    table = table_of(shared, PUBLISHED[0])
    assert table.is_bonafide is not None
    classes = table.scores[table.is_bonafide], table.scores[~table.is_bonafide]
    found = confidence(*classes, Bootstrap(n=100)).intervals
    for name, value in (("eer_percent", 0.8295), ("min_dcf", 0.02386), ("cllr_bits", 0.09150)):
        assert found[name][0] < value < found[name][1]


def test_two_published_systems_are_compared_on_the_same_trials(shared: Path) -> None:
    first, second = (table_of(shared, published) for published in PUBLISHED[:2])
    of = compare_tables(first, second, Bootstrap(n=100))
    difference = of.differences["eer_percent"]
    assert f"{difference.first:.9f} {difference.second:.9f}" == "0.829367777 1.060503059"
    assert difference.low <= difference.difference <= difference.high
    assert (of.mcnemar.only_first_right, of.mcnemar.only_second_right) == (437, 272)


def _tsv(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _rates(result: MetricsSummary) -> dict[str, float]:
    return {name: of.eer.eer * 100 for name, of in result.attacks.items()}

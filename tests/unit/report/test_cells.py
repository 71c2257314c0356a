from __future__ import annotations

import numpy as np
import pytest

from aasist_deploy.metrics import eer
from aasist_deploy.report._cells import MAX_TABLES, cross_conditions

RANDOM = np.random.default_rng(3)
TRUTH = np.arange(900) < 300
SCORES = RANDOM.normal(np.where(TRUTH, 1.0, -1.0))
ATTACKS = np.where(TRUTH, "-", RANDOM.choice(["A07", "A08", "A09"], 900))
CODEC = RANDOM.choice(["alaw", "gsm"], 900)


def test_cell_is_the_eer_of_its_trials() -> None:
    (table,) = cross_conditions(SCORES, TRUTH, ATTACKS.tolist(), {"codec": CODEC.tolist()})
    assert (table["rows"], table["columns"]) == ("attack", "codec")
    for attack, line in table["cells"].items():
        for codec, cell in line.items():
            bonafide = SCORES[TRUTH & (codec == CODEC)]
            spoof = SCORES[(attack == ATTACKS) & (codec == CODEC)]
            assert cell["eer_percent"] == eer(bonafide, spoof).eer * 100
            assert (cell["n_bonafide"], cell["n_spoof"]) == (len(bonafide), len(spoof))
    assert list(table["cells"]) == ["A07", "A08", "A09"]


def test_cell_without_a_class_has_no_rate() -> None:
    codec = np.where(ATTACKS == "A07", "only-a07", CODEC)
    (table,) = cross_conditions(SCORES, TRUTH, ATTACKS.tolist(), {"codec": codec.tolist()})
    assert table["cells"]["A07"]["alaw"] == {
        "eer_percent": None, "n_bonafide": int((TRUTH & (codec == "alaw")).sum()), "n_spoof": 0
    }  # fmt: skip
    assert table["cells"]["A07"]["only-a07"]["eer_percent"] is None  # and no bona fide trial


def test_two_conditions_of_attacks_keep_all_bona_fide_trials() -> None:
    vocoder = np.where(TRUTH, "bonafide", RANDOM.choice(["wavenet", "griffin"], 900))
    (table,) = cross_conditions(SCORES, TRUTH, ATTACKS.tolist(), {"vocoder": vocoder.tolist()})
    assert {c["n_bonafide"] for line in table["cells"].values() for c in line.values()} == {300}


def test_without_attacks_other_conditions_are_crossed() -> None:
    room = RANDOM.choice(["a", "b", "c"], 900)
    (table,) = cross_conditions(
        SCORES, TRUTH, ["-"] * 900, {"codec": CODEC.tolist(), "room": room.tolist()}
    )
    assert (table["rows"], table["columns"]) == ("room", "codec")  # more values go down


@pytest.mark.parametrize("n_values", [1, 25])
def test_conditions_of_one_value_or_very_many_have_no_table(n_values: int) -> None:
    values = [f"v{index % n_values:02d}" for index in range(900)]
    assert cross_conditions(SCORES, TRUTH, ATTACKS.tolist(), {"x": values}) == []


def test_number_of_tables_is_limited() -> None:
    conditions = {f"c{index}": CODEC.tolist() for index in range(6)}
    tables = cross_conditions(SCORES, TRUTH, ATTACKS.tolist(), conditions)
    assert len(tables) == MAX_TABLES
    assert {table["rows"] for table in tables} == {"attack"}


def test_all_cells_together_hold_all_trials() -> None:
    (table,) = cross_conditions(SCORES, TRUTH, ATTACKS.tolist(), {"codec": CODEC.tolist()})
    assert sum(c["n_spoof"] for line in table["cells"].values() for c in line.values()) == 600

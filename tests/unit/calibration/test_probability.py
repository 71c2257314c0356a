"""A calibrated score as a probability, in the library, in a contract and in an engine."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aasist_deploy.calibration import (
    Calibration,
    fit_affine,
    p_spoof,
)
from aasist_deploy.contract import ModelContract
from aasist_deploy.errors import ModelFileError, UsageError
from aasist_deploy.metrics.dcf import DetectionCosts
from tests.contracts import contract_of
from tests.unit.calibration.known import gaussian_llr


@given(st.floats(-700, 700), st.floats(1e-6, 1 - 1e-6))
def test_probability_follows_bayes_rule(llr: float, prior: float) -> None:
    odds = math.exp(-llr) * prior / (1 - prior)
    assert float(p_spoof(llr, prior)) == pytest.approx(odds / (1 + odds), rel=1e-9)


def test_probability_without_evidence_is_the_prior() -> None:
    assert float(p_spoof(0.0)) == 0.5
    assert float(p_spoof(0.0, 0.05)) == pytest.approx(0.05, rel=1e-12)


def test_probability_neither_overflows_nor_loses_its_tails() -> None:
    assert p_spoof([1e5, -1e5]).tolist() == [0.0, 1.0]
    assert float(p_spoof(100.0)) == pytest.approx(math.exp(-100), rel=1e-12)


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, math.nan])
def test_prior_that_decides_everything_is_refused(prior: float) -> None:
    with pytest.raises(UsageError, match="prior of spoof"):
        p_spoof(0.0, prior)


def test_bayes_threshold_is_where_the_expected_costs_are_equal() -> None:
    costs = DetectionCosts(p_spoof=0.2, cost_miss=3.0, cost_fa=5.0)
    p = float(p_spoof(costs.bayes_threshold, costs.p_spoof))
    assert costs.cost_fa * p == pytest.approx(costs.cost_miss * (1 - p), rel=1e-12)


CONTRACT = contract_of(architecture="AASIST", checkpoint_sha256="ab" * 32)


def test_calibration_survives_the_contract_and_its_json(tmp_path: Path) -> None:
    llr, truth = gaussian_llr(300, 4.0)
    found = fit_affine(llr, truth, scores_sha256="cd" * 32)
    contract = replace(CONTRACT, calibration=found.to_dict(), thresholds={"eer": 0.1 + 0.2})
    read = ModelContract.from_metadata(contract.to_metadata(), Path("model.onnx"))
    beside = tmp_path / "model.plan.json"  # the form in which a TensorRT plan has its contract
    beside.write_text(json.dumps(contract.to_dict()), encoding="utf-8")
    from_json = ModelContract.from_dict(json.loads(beside.read_text(encoding="utf-8")), beside)
    assert from_json == contract
    for held in (read, from_json):
        assert held.calibration is not None
        assert Calibration.from_dict(held.calibration) == found
        assert held.thresholds == {"eer": 0.1 + 0.2}


def test_keys_that_are_not_known_are_left_out() -> None:
    held = {"scale": 2, "offset": -1.0, "fitted_by": "another tool"}
    assert Calibration.from_dict(held) == Calibration(scale=2, offset=-1.0)


@pytest.mark.parametrize(
    "held",
    [
        {},
        {"scale": 1.0},
        3,
        [1.0, 0.0],
        {"scale": 0.0, "offset": 0.0},
        {"scale": -1.0, "offset": 0.0},
        {"scale": math.inf, "offset": 0.0},
        {"scale": "1", "offset": 0.0},
        {"scale": 1.0, "offset": None},
        {"scale": True, "offset": 0.0},
        {"scale": 1.0, "offset": math.nan},
    ],
)
def test_calibration_that_is_none_is_refused(held: Any, fake_engine: Any) -> None:
    with pytest.raises(ModelFileError, match="calibration"):
        Calibration.from_dict(held)
    with pytest.raises(ModelFileError, match="calibration"):
        fake_engine(calibration=held)


def test_engine_derives_llr_and_probability_from_its_score(fake_engine: Any) -> None:
    engine = fake_engine(calibration={"scale": 0.5, "offset": 1.0})
    waves = np.array([[0.2], [0.0], [-0.2]], np.float32).repeat(800, axis=1)
    np.testing.assert_allclose(
        engine.llr(waves), 0.5 * engine.score(waves).astype(np.float64) + 1.0, rtol=1e-12
    )
    np.testing.assert_allclose(
        engine.p_spoof(waves, 0.05),
        1 / (1 + np.exp(engine.llr(waves) + math.log(0.95 / 0.05))),
        rtol=1e-12,
    )
    assert engine.llr(waves).dtype == np.float64
    assert (np.diff(engine.p_spoof(waves)) > 0).all()


def test_engine_without_calibration_has_no_probability(fake_engine: Any) -> None:
    engine, waves = fake_engine(), np.zeros((1, 800), np.float32)
    for method in (engine.llr, engine.p_spoof):
        with pytest.raises(ModelFileError, match="not calibrated") as raised:
            method(waves)
        assert "aasist-deploy calibrate" in str(raised.value.fix)
    assert engine.batches == []

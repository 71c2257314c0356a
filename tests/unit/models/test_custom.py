"""Networks of the user's own, from a file or a module."""

from __future__ import annotations

import copy
import json
import logging
import sys
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import torch

from aasist_deploy.contract import LOG_PROBABILITY_SCORE, LOGIT_SCORE
from aasist_deploy.errors import CheckpointError, UsageError
from aasist_deploy.models import CustomNetwork, build_model, load_checkpoint, save_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Written = Callable[..., str]

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_samples = 400
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("window", torch.ones(8), persistent=False)
        self.norm = nn.BatchNorm1d(config.get("width", 3))
        self.layers = nn.Sequential(nn.Linear(1, config.get("width", 3)), nn.SELU())
        self.out = nn.Linear(config.get("width", 3), 2)

    def forward(self, wave):
        embedding = self.norm(self.layers(self.scale * wave.mean(dim=1, keepdim=True)))
        return embedding, self.out(embedding)

class Alone(Net):
    def forward(self, wave):
        return super().forward(wave)[1]

class NoModule:
    pass
"""
NAMES = {
    "scale", "seen", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
    "norm.num_batches_tracked", "layers.0.weight", "layers.0.bias", "out.weight", "out.bias",
}  # fmt: skip
SETTINGS: dict[str, Any] = {"architecture": "custom", "config": {"width": 4}}


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """(source, class) -> the code that names it, in a file of its own."""

    def write(source: str = NET, name: str = "Net", file: str = "net.py") -> str:
        path = tmp_path / file
        path.write_text(source)
        return f"{path}:{name}"

    return write


def built(code: str, **settings: Any) -> CustomNetwork:
    model = build_model({**SETTINGS, **settings}, code)
    assert isinstance(model, CustomNetwork)
    return model


def body(forward: str, init: str = "pass") -> str:
    return (
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self, config):\n"
        f"        super().__init__()\n        self.out = torch.nn.Linear(1, 2)\n        {init}\n"
        f"    def forward(self, wave):\n        {forward}\n"
    )


LOGITS = "return self.out(wave.mean(dim=1, keepdim=True))"


def test_network_has_the_names_of_the_class_and_what_it_says(written: Written) -> None:
    model = built(written())
    assert set(model.state_dict()) == NAMES
    assert {n for n, _ in model.named_parameters()} < NAMES
    assert model.get_submodule("norm").num_features == 4
    assert (model.architecture, model.n_samples, model.min_samples) == ("custom", 400, 400)
    assert (model.any_length, model.score, model.n_features) == (False, LOGIT_SCORE, 4)
    embedding, output = model(torch.randn(3, 400), mask_filters=True)
    assert embedding.shape == (3, 4)
    assert output.shape == (3, 2)


def test_class_of_an_importable_module_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_networks.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        model = built("my_networks:Net")
    finally:
        sys.modules.pop("my_networks", None)
    assert model.settings["code"] == "my_networks:Net"
    assert model.settings["code_sha256"] == sha256(NET.encode()).hexdigest()


def test_file_can_import_the_files_beside_it(written: Written, tmp_path: Path) -> None:
    (tmp_path / "beside_the_net.py").write_text("WIDTH = 7\n")
    before = list(sys.path)
    source = "from beside_the_net import WIDTH\n" + NET.replace('config.get("width", 3)', "WIDTH")
    try:
        assert built(written(source)).n_features == 7
    finally:
        sys.modules.pop("beside_the_net", None)
    assert sys.path == before


def test_changed_file_is_read_again(written: Written) -> None:
    assert built(written()).n_samples == 400
    assert built(written(NET.replace("400", "500"))).n_samples == 500


def test_output_stands_in_for_an_embedding_that_is_not_given(written: Written) -> None:
    model = built(written(name="Alone")).eval()
    embedding, output = model(torch.randn(3, 400))
    assert torch.equal(embedding, output)
    assert model.n_features == 2


def test_class_says_its_score_and_that_it_takes_any_length(written: Written) -> None:
    init = (
        "self.any_length, self.min_samples = True, 5; self.score = 'log-probability of bona fide'"
    )
    model = built(written(body(LOGITS, init)))
    assert (model.any_length, model.min_samples, model.n_samples) == (True, 5, 64_600)
    assert model.score == LOG_PROBABILITY_SCORE


def test_length_of_the_settings_comes_before_that_of_the_class(written: Written) -> None:
    model = built(written(), n_samples=300)
    assert model.n_samples == 300
    assert model.settings["n_samples"] == 300


def test_filters_are_masked_where_the_class_knows_how(written: Written) -> None:
    source = body(LOGITS + " * (0 if mask_filters else 1)").replace(
        "self, wave)", "self, wave, mask_filters=False)"
    )
    model = built(written(source))
    assert not model(torch.ones(1, 9), mask_filters=True)[1].any()
    assert model(torch.ones(1, 9))[1].any()


def test_modes_moves_and_copies_reach_the_module_of_the_user(written: Written) -> None:
    model = built(written())
    for mode in (True, False):
        model.train(mode)
        modules = [model, model._module, *model._module.modules()]
        assert {module.training for module in modules} == {mode}
    copied = copy.deepcopy(model).double()
    with torch.no_grad():
        copied.get_parameter("scale").fill_(3.0)
    assert model.get_parameter("scale").tolist() == [1.0]
    wave = torch.randn(2, 400)
    assert copied(wave.double())[1].dtype == torch.float64
    assert not torch.equal(copied(wave.double())[1].float(), model(wave)[1])
    inner = copied._module
    assert {b.dtype for b in inner.buffers()} == {torch.float64, torch.int64}


def test_trial_run_leaves_no_trace(written: Written) -> None:
    init = "self.drop = torch.nn.Dropout(0.5); self.norm = torch.nn.BatchNorm1d(2)"
    forward = "return self.norm(self.drop(self.out(wave[:, :1]) + torch.rand(1)))"
    torch.manual_seed(3)
    torch.nn.Linear(1, 2)  # what the class draws for itself
    expected = torch.rand(4)
    torch.manual_seed(3)
    model = built(written(body(forward, init)))
    assert torch.equal(torch.rand(4), expected)
    assert all(module.training for module in model.modules())
    assert int(model.get_buffer("norm.num_batches_tracked")) == 0


def test_network_can_be_exported_by_torch(written: Written) -> None:
    model = built(written()).eval()
    wave = torch.randn(2, 400)
    program = torch.export.export(model, (wave,))
    assert torch.allclose(program.module()(wave)[1], model(wave)[1])


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (NET, "Nothing", r"has no class Nothing; its modules are: Net, Alone\."),
        (NET, "NoModule", "is no subclass of torch.nn.Module"),
        (NET, "torch", "is no subclass of torch.nn.Module, but a module"),
        ("class Net(:\n", "Net", "cannot be imported: SyntaxError"),
        ("\nimport no_such_package\n", "Net", r"No module named 'no_such_package' \(net.py:2\)"),
        ("raise SystemExit(3)\n", "Net", r"cannot be imported: SystemExit: 3 \(net.py:1\)"),
    ],
)
def test_class_that_cannot_be_found_is_refused(
    source: str, name: str, message: str, written: Written
) -> None:
    with pytest.raises(UsageError, match=message):
        built(written(source, name))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("net.py", "names no class"),
        ("net:", "names no class"),
        (":Net", "names no class"),
        ("nowhere/net.py:Net", "cannot be read: No such file"),
        ("no_such_module_of_mine:Net", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_code_that_is_not_there_is_refused(code: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        built(code)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (body(LOGITS, "config['depth']"), r"cannot be made .*: KeyError: 'depth' \(net.py:6\)"),
        (body(LOGITS).replace("self, config", "self"), "cannot be made with its .*: TypeError"),
        (body("return self.out(wave)"), r"given 2 x 64600 waves failed: RuntimeError: .*net.py:8"),
        (body("return wave"), r"returned logits of shape \(2, 64600\), not \(2, 2\)"),
        (body("return self.out(wave[:, :1])[:1]"), r"logits of shape \(1, 2\), not \(2, 2\)"),
        (body("return self.out(wave[:, :1]).argmax(1)"), r"logits of shape \(2,\)"),
        (body("return self.out(wave[:, :1]).long()"), r"not \(2, 2\) floats"),
        (body("return {'score': wave}"), "returned a dict"),
        (body("return wave, wave, wave"), "returned a tuple of Tensor, Tensor, Tensor"),
        (body("return wave[0], self.out(wave[:, :1])"), r"embedding of shape \(64600,\)"),
        (body(LOGITS, "self.score = 'probability'"), "its score is 'probability'; known are"),
        (body(LOGITS, "self.n_samples = 0"), "n_samples is 0"),
        (body(LOGITS, "self.n_samples = 1.5"), "n_samples is 1.5"),
        (body(LOGITS, "self.any_length = True"), "min_samples is None"),
        (
            body("return self.out(wave[:, 9:10])", "self.any_length, self.min_samples = True, 5"),
            "given 2 x 5 waves failed",
        ),
    ],
)
def test_class_that_does_not_fit_is_refused(source: str, message: str, written: Written) -> None:
    with pytest.raises(CheckpointError, match=message):
        built(written(source))


@pytest.mark.parametrize("change", [{"nb_samp": 5}, {"config": [1]}])
def test_settings_of_another_form_are_refused(change: dict[str, Any], written: Written) -> None:
    with pytest.raises(CheckpointError, match="has the keys architecture, code"):
        built(written(), **change)


def test_file_of_weights_records_the_code_and_never_runs_it(
    written: Written, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    source = NET + f"\nimport pathlib; pathlib.Path({str(mark)!r}).touch()\n"
    code = written(source)
    model = built(code)
    path = tmp_path / "weights.safetensors"
    save_weights(path, model)
    mark.unlink()
    with pytest.raises(CheckpointError, match=r"was made with .*net\.py:Net.*only when") as raised:
        load_checkpoint(path)
    assert f"--code {code}" in str(raised.value.fix)
    assert not mark.exists()

    again = load_checkpoint(path, code=code)
    assert again.architecture == "custom"
    assert again.config == {
        **SETTINGS,
        "n_samples": 400,
        "code": code,
        "code_sha256": sha256(source.encode()).hexdigest(),
    }
    assert not again.model.training
    assert set(again.model.state_dict()) == NAMES
    for name, value in model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)


def test_code_that_changed_since_training_is_a_warning(
    written: Written, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, built(written()))
    with caplog.at_level(logging.WARNING):
        load_checkpoint(path, code=written())
        assert caplog.text == ""
        load_checkpoint(path, code=written(NET + "\n# another line\n"))
    assert "is not the code that the weights were made with" in caplog.text


def test_state_dict_of_the_user_needs_no_configuration(written: Written, tmp_path: Path) -> None:
    code = written()
    state = built(code, config={}).state_dict()
    path = tmp_path / "mine.pth"
    torch.save(state, path)
    assert load_checkpoint(path, code=code).config["config"] == {}
    path.with_suffix(".conf").write_text(json.dumps({"model_config": SETTINGS}))
    with pytest.raises(CheckpointError, match=r"do not fit custom .*norm.weight is \(3,\), not"):
        load_checkpoint(path, code=code)


def test_state_that_is_no_tensor_cannot_be_saved(written: Written, tmp_path: Path) -> None:
    source = body(LOGITS) + "    def get_extra_state(self):\n        return {'a': 1}\n"
    source += (
        "class Outer(Net):\n    def __init__(self, config):\n        super().__init__(config)\n"
    )
    source += "        self.inner = Net(config)\n"
    with pytest.raises(CheckpointError, match=r"what is no tensor: inner\._extra_state"):
        save_weights(tmp_path / "weights.safetensors", built(written(source, "Outer")))

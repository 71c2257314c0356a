from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aasist_deploy.bench import Settings, measure, n_steps, results_of
from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aasist_deploy.bench import Variant


def turns(machine: Any) -> list[tuple[str, int]]:
    """(variant, batch) of every call to score in the rounds, in order."""
    first = next(i for i, (_, do, _) in enumerate(machine.log) if do == "product")
    return [(n, v["batch"]) for n, do, v in machine.log[first:] if do == "score"]


def results(machine: Any, variants: list[Variant], settings: Settings, **more: Any) -> Any:
    run = measure(variants, settings, start=machine)
    return results_of(run, settings, machine={}, command="", **more)


def test_every_variant_has_one_turn_a_round_at_each_batch(
    fake_machine: Any, variant: Callable[..., Variant]
) -> None:
    settings = Settings(batches=(1, 4), rounds=6)
    measure([variant("slow"), variant("fast")], settings, start=fake_machine)
    found = turns(fake_machine)
    rounds = [found[i : i + 4] for i in range(0, len(found), 4)]
    assert len(rounds) == 6
    wanted = {("slow", 1), ("fast", 1), ("slow", 4), ("fast", 4)}
    assert all(set(one) == wanted for one in rounds)


def test_order_changes_from_round_to_round(
    fake_machine: Any, variant: Callable[..., Variant]
) -> None:
    settings = Settings(batches=(1,), rounds=20)
    measure([variant("slow"), variant("fast")], settings, start=fake_machine)
    found = [name for name, _ in turns(fake_machine)]
    firsts = found[::2]
    assert 5 <= firsts.count("slow") <= 15


def test_a_turn_of_a_fast_variant_has_more_calls(
    fake_machine: Any, variant: Callable[..., Variant]
) -> None:
    run = measure(
        [variant("slow"), variant("fast")],
        Settings(batches=(1, 8), rounds=1),
        start=fake_machine,
    )
    slow, fast = run.variants
    assert (slow.turns[1].calls, fast.turns[1].calls) == (5, 20)  # 0.2 s of 40 and of 10 ms
    assert slow.turns[8].calls == 1  # 0.32 s


def test_figures_follow_from_times(fake_machine: Any, variant: Callable[..., Variant]) -> None:
    settings = Settings(batches=(2,), rounds=3, threads=2)
    found = results(fake_machine, [variant("slow"), variant("fast")], settings, baseline="slow")
    slow, fast = found["rows"]
    assert fast["median_ms"] == pytest.approx(20)
    assert fast["windows_per_second"] == pytest.approx(100)
    assert fast["real_time_factor"] == pytest.approx(0.01 / 0.05)  # 10 ms for 800 samples
    assert fast["cpu_ms_per_window"] == pytest.approx(20)
    assert fast["operations_per_second"] == pytest.approx(200 / 0.01)
    # Against the faster of two tools: 2,000 operations in 0.1 s.
    assert fast["fraction_of_matrix_product"] == pytest.approx(20_000 / 20_000)
    assert fast["ratio"] == {"median": 4.0, "low": 4.0, "high": 4.0, "paired": True}
    assert slow["ratio"]["median"] == 1.0
    assert fast["peak_memory_bytes"] > 100_000_000


def test_fraction_is_of_products_in_the_same_precision_or_not_known(
    fake_machine: Any, variant: Callable[..., Variant]
) -> None:
    settings = Settings(batches=(1,), rounds=1)
    found = results(fake_machine, [variant("fast", precision="bf16")], settings)
    assert found["rows"][0]["fraction_of_matrix_product"] is None
    assert found["variants"][0]["precision"] == "bf16"
    fake_machine.operations = None
    found = results(fake_machine, [variant("fast")], settings)
    assert found["rows"][0]["fraction_of_matrix_product"] is None
    assert found["rows"][0]["operations_per_second"] is None


def test_variable_length_is_measured_at_the_usual_window_or_the_longest(
    fake_machine: Any, variant: Callable[..., Variant]
) -> None:
    fake_machine.n_samples = None  # takes 800 to 2,000 samples
    run = measure([variant("fast")], Settings(batches=(1,), rounds=1), start=fake_machine)
    assert run.variants[0].n_samples == 2_000


def test_a_variant_that_breaks_is_reported_and_the_others_go_on(
    fake_machine: Any, variant: Callable[..., Variant]
) -> None:
    fake_machine.fail_after = {"slow": 4}
    settings = Settings(batches=(1,), rounds=6)
    found = results(fake_machine, [variant("slow"), variant("fast")], settings, baseline="slow")
    slow, fast = found["variants"]
    assert "killed by signal 9" in slow["error"]
    assert fast["error"] is None
    assert [len(row["rounds_s"]) for row in found["rows"]] == [3, 6]
    assert found["rows"][1]["ratio"]["median"] == pytest.approx(4.0)


def test_what_was_measured_before_an_interrupt_is_kept(
    fake_machine: Any, variant: Callable[..., Variant]
) -> None:
    fake_machine.interrupt_after = 5  # one to warm up, four rounds
    settings = Settings(batches=(1,), rounds=9)
    found = results(fake_machine, [variant("slow"), variant("fast")], settings)
    assert found["rounds"] == 4
    assert [len(row["rounds_s"]) for row in found["rows"]] == [4, 4]
    assert found["notes"] == ["interrupted after 4 of 9 rounds"]


def test_an_interrupt_before_the_first_round_is_one(
    fake_machine: Any, variant: Callable[..., Variant]
) -> None:
    fake_machine.interrupt_after = 1
    with pytest.raises(KeyboardInterrupt):
        measure([variant("fast")], Settings(batches=(1,)), start=fake_machine)
    assert all(worker.closed for worker in fake_machine.workers)


def test_files_are_timed_from_decode_to_scores(
    fake_machine: Any, variant: Callable[..., Variant]
) -> None:
    files = tuple(Path(f"{i}.wav") for i in range(5))
    settings = Settings(batches=(1, 4), rounds=2, files=files)
    found = results(fake_machine, [variant("slow"), variant("fast")], settings, baseline="slow")
    part = found["end_to_end"]
    assert (part["n_files"], part["batch"], part["audio_s"]) == (5, 4, 20.0)
    slow, fast = part["rows"]
    assert slow["files_per_second"] == pytest.approx(25)
    assert fast["ratio"]["median"] == pytest.approx(4)
    assert fast["errors"] == ["one is broken"]
    assert fast["n_scored"] == 4


def test_steps_are_as_many_as_said(fake_machine: Any, variant: Callable[..., Variant]) -> None:
    said: list[str] = []
    settings = Settings(batches=(1,), rounds=4)
    measure([variant("slow"), variant("fast")], settings, start=fake_machine, on_step=said.append)
    assert len(said) == n_steps(2, settings)


def test_a_batch_that_the_model_does_not_take_is_refused_before_anything_is_timed(
    fake_machine: Any, variant: Callable[..., Variant]
) -> None:
    fake_machine.batch = [1, 4]
    with pytest.raises(UsageError, match="fast takes batches of 1 to 4; 8 was asked for"):
        measure([variant("fast")], Settings(), start=fake_machine)
    assert not [do for _, do, _ in fake_machine.log if do == "score"]
    assert all(worker.closed for worker in fake_machine.workers)


def test_scores_that_are_no_numbers_are_refused(
    fake_machine: Any, variant: Callable[..., Variant]
) -> None:
    fake_machine.finite = False
    with pytest.raises(UsageError, match="no numbers"):
        measure([variant("fast")], Settings(), start=fake_machine)


@pytest.mark.parametrize("values", [{"batches": ()}, {"batches": (1, 0)}, {"rounds": 0}])
def test_settings_that_measure_nothing_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be 1 or"):
        Settings(**values)

"""From the report's values to the page: what is said, in which words, with how many digits."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.report._figures import det_svg, histogram_svg, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

FEW_TRIALS: Final = 30
N_WORST: Final = 10
MAX_ROWS: Final = 200  # of a table; report.json has them all
# Unicode categories that draw nothing or change how their neighbours are drawn: control, format
# (with the bidirectional overrides), surrogate, private use, line and paragraph separator.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})

PERCENT: Final = "\N{NO-BREAK SPACE}%"

Row = tuple[str, str]


def render_page(
    report: Mapping[str, Any],
    scores: NDArray[np.float64],
    is_bonafide: NDArray[np.bool_],
    attacks: Sequence[str],
    utterances: Sequence[str],
) -> str:
    """Return report.html; the arguments are those of `write_report`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aasist_deploy.report", package_path=""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scores = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(is_bonafide, dtype=np.bool_)
    bonafide, spoof = scores[truth], scores[~truth]
    eer, threshold = float(report["eer_percent"]), float(report["eer_threshold"])
    failures = list(report["failures"])
    det = _det(bonafide, spoof, eer)  # first, because it refuses what has no error rates
    return environment.get_template("template.html.j2").render(
        title=_title(report),
        created=report["created"],
        verdict=_verdict(report),
        warnings=_warnings(report, len(bonafide), len(spoof)),
        facts=_facts(report),
        note=report["min_tdcf_2019_note"],
        det=det,
        histogram=_histogram(bonafide, spoof, eer, threshold),
        attacks=_attacks(report["attacks"]),
        n_attacks=len(report["attacks"]),
        worst=_worst(scores, truth, attacks, utterances, threshold),
        failures=failures[:MAX_ROWS],
        n_failures=len(failures),
        dataset=_dataset(report),
        model=_rows(report["model"]),
        environment=_rows(report["environment"]),
        command=report["command"],
        schema=report["schema"],
    )


def _title(report: Mapping[str, Any]) -> str:
    model, dataset = report["model"], report["dataset"]
    subject = (model or {}).get("architecture") or "Score file"
    return " ".join(
        str(part) for part in (subject, "on", dataset["name"], dataset["split"]) if part
    )


def _verdict(report: Mapping[str, Any]) -> str:
    said = f"EER {percent(report['eer_percent'])}{PERCENT}"
    if report["min_tdcf_2019"] is not None:
        said += f" and min t-DCF {report['min_tdcf_2019']:.4f}"
    n_trials = report["n_bonafide"] + report["n_spoof"]
    said += f" over {n_trials:,} trials, "
    model, backend = report["model"], report["backend"]
    if model is None:
        return said + "from a score file."
    said += f"scored by {model.get('architecture', 'the model')}"
    if model.get("precision"):
        said += f" in {model['precision']}"
    if backend is not None:
        said += f" with {backend['name']} on {backend['device']}"
    return said + "."


def _facts(report: Mapping[str, Any]) -> list[Row]:
    tdcf, timing = report["min_tdcf_2019"], report["timing"]
    facts = [
        ("EER", f"{percent(report['eer_percent'])}{PERCENT}"),
        ("min t-DCF (2019)", "not computed" if tdcf is None else f"{tdcf:.4f}"),
        ("Threshold at EER", f"{report['eer_threshold']:.4f}"),
        ("Bona fide", f"{report['n_bonafide']:,}"),
        ("Spoof", f"{report['n_spoof']:,}"),
    ]
    if timing is not None:
        facts.append(("Trials a second", f"{timing['trials_per_second']:,.1f}"))
    return facts


def _warnings(report: Mapping[str, Any], n_bonafide: int, n_spoof: int) -> list[Row]:
    found: list[Row] = []
    polarity, n_failures = report["polarity"], len(report["failures"])
    if polarity["reversed"]:
        negated = percent(polarity["negated_eer_percent"])
        said = polarity["message"] or f"The EER of the negated scores is {negated}{PERCENT}."
        found.append(("Check the polarity.", said))
    if n_failures:
        n_all = n_bonafide + n_spoof + n_failures
        said = "They are listed below and are not part of any number on this page."
        found.append((f"{n_failures:,} of {n_all:,} trials could not be scored.", said))
    classes = (("bona fide", "miss rate", n_bonafide), ("spoofed", "false alarm rate", n_spoof))
    few = [each for each in classes if each[2] < FEW_TRIALS]
    if few:
        counts = " and ".join(f"{n} {name}" for name, _, n in few)
        steps = " and ".join(f"the {rate} by {100 / n:.1f}{PERCENT}" for _, rate, n in few)
        said = f"One error moves {steps}: the EER has steps of about that size."
        found.append((f"Few trials: only {counts}.", said))
    return found


def _det(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64], eer: float
) -> dict[str, str | None]:
    label = f"DET curve; the equal error rate is {percent(eer)} percent"
    svg = det_svg(bonafide, spoof, eer, label)
    if svg is not None:
        return {"svg": svg, "said": None}
    # An event never seen in n trials has, at 95 % confidence, a rate below 1 - 0.05 ** (1 / n).
    bound = 100 * (1 - 0.05 ** (1 / min(len(bonafide), len(spoof))))
    return {
        "svg": None,
        "said": "No curve to draw: at the EER threshold there is not one error of either kind. "
        f"{len(bonafide):,} bona fide and {len(spoof):,} spoofed trials show no more than this: "
        f"both error rates are below {bound:.2g}{PERCENT}, at 95{PERCENT} confidence.",
    }


def _histogram(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64], eer: float, threshold: float
) -> dict[str, str | None]:
    label = (
        f"Histogram of the scores of {len(bonafide)} bona fide and {len(spoof)} spoofed trials; "
        f"the threshold of the equal error rate, {percent(eer)} percent, is at {threshold:.4f}"
    )
    return {"svg": histogram_svg(bonafide, spoof, threshold, label), "said": None}


def _attacks(attacks: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    known = [
        values["eer_percent"] for values in attacks.values() if values["eer_percent"] is not None
    ]
    highest = max(known, default=0.0)
    rows = []
    for name, values in sorted(attacks.items())[:MAX_ROWS]:
        eer = values["eer_percent"]
        rows.append({
            "name": name,
            "eer": "-" if eer is None else percent(eer),
            "bar": round(100 * eer / highest, 1) if eer and highest else 0,
            "n": f"{values['n_spoof']:,}",
        })  # fmt: skip
    return rows


def _worst(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    attacks: Sequence[str],
    utterances: Sequence[str],
    threshold: float,
) -> list[dict[str, Any]]:
    margin = np.where(truth, scores - threshold, threshold - scores)  # < 0 on the wrong side
    order = np.argsort(margin, kind="stable")[:N_WORST]
    return [
        {
            "utterance": utterances[index],
            "label": "bona fide" if truth[index] else "spoof",
            "attack": attacks[index],
            "score": f"{scores[index]:.4f}",
            "margin": f"{margin[index]:+.4f}",
            "wrong": bool(margin[index] < 0),
        }
        for index in order.tolist()
    ]


def _dataset(report: Mapping[str, Any]) -> list[Row]:
    dataset, audio, timing = report["dataset"], report["audio"], report["timing"]
    names = {"name": "dataset", "n_trials": "trials", "asv_scores": "ASV scores"}
    rows = [(names.get(key, key), _plain(value)) for key, value in dataset.items()]
    if report["asv"] is not None:
        rows += [(f"ASV {key}", _plain(value)) for key, value in report["asv"].items()]
    if audio is not None:
        rows += [
            ("decoded by the second decoder", f"{audio['n_second_decoder']:,} files"),
            ("resampled", f"{audio['n_resampled']:,} files"),
            ("repeated to the model's length", f"{audio['n_tiled']:,} files"),
            ("cut to the model's length", f"{audio['n_cut']:,} files"),
        ]
    if timing is not None:
        rows.append(
            ("time", f"{timing['seconds']:,.1f} s for {timing['audio_seconds']:,.1f} s of audio")
        )
    backend = report["backend"]
    if backend is not None:
        rows += [("backend", _plain(backend["name"])), ("device", _plain(backend["device"]))]
        if backend.get("details"):
            rows.append(("backend details", _plain(backend["details"])))
    rows.append(("compat", _plain(report["compat"])))
    return rows


def _rows(values: Mapping[str, Any] | None) -> list[Row]:
    return [(key, _plain(value)) for key, value in (values or {}).items()]


def _plain(value: object) -> str:
    """One value as text: words for nothing and for booleans, JSON for what is nested."""
    if value is None or value in ("", [], (), {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False)


def _visible(value: object) -> object:
    """Show characters that would be invisible, or not fit in UTF-8, by their code.

    jinja2 calls this on every value before it is escaped.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    if value.isascii() and value.isprintable():
        return value
    return "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char) in _INVISIBLE and char != "\n" else char
        for char in value
    )

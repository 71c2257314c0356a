"""`aasist-deploy metrics`: error rates and costs of a score file."""

from dataclasses import replace
from pathlib import Path  # typer reads these annotations at run time
from typing import Annotated

import numpy as np
import typer

from aasist_deploy.cli.common import JsonOption, print_json, stderr, stdout
from aasist_deploy.cli.tables import (
    comparison_table,
    conditions_table,
    metrics_table,
    sasv_table,
    summary_table,
)
from aasist_deploy.errors import UsageError
from aasist_deploy.metrics import (
    ASVSPOOF5_ASV,
    Bootstrap,
    Compat,
    FixedAsvRates,
    SasvSummary,
    Unit,
    asv_error_rates,
    check_polarity,
    compare_tables,
    summarize,
    summarize_sasv,
)
from aasist_deploy.scores import (
    AsvScores,
    ScoreTable,
    read_asv_scores,
    read_asv_scores_2021,
    read_sasv_scores,
    read_scores,
)
from aasist_deploy.trials import ProtocolEntry, read_key

_REPLICATES_OF_A_COMPARISON = 1000


def metrics(
    scores: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Score file, plain, gzip or zip: ASVspoof text of 2 to 6 columns, or CSV or "
            "JSONL from the verb score. Higher means more bona fide.",
        ),
    ],
    protocol: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Protocol or key of ASVspoof 2019, 2021 or 5, or a manifest: the truth for score "
            "files without a bonafide|spoof column, the speakers, and the conditions.",
        ),
    ] = None,
    subset: Annotated[
        str | None,
        typer.Option(
            help="Keep the trials of one subset of an ASVspoof 2021 key: eval, progress or hidden. "
            "Published figures are of eval."
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Leave out trials that scores and protocol (or key) do not share, and say so.",
        ),
    ] = False,
    asv_scores: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="ASV scores of the same split; without them there is no min t-DCF. For "
            "ASVspoof 2021 also --asv-key.",
        ),
    ] = None,
    asv_key: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="ASV/trial_metadata.txt, ASVspoof 2021."),
    ] = None,
    fixed_asv: Annotated[
        bool,
        typer.Option(
            "--fixed-asv",
            help="In place of ASV scores: the fixed ASV rates of ASVspoof 5 (Pfa 1.88 %, "
            "Pmiss 1.88 %, spoofs accepted 46.1 %).",
        ),
    ] = False,
    compat: Annotated[
        Compat,
        typer.Option(
            help="corrected treats equal scores as one; official repeats the arithmetic of the "
            "ASVspoof packages, ties and all, to compare with published figures."
        ),
    ] = "corrected",
    negate: Annotated[
        bool, typer.Option("--negate", help="Use the negated scores, for files with spoof high.")
    ] = False,
    llr: Annotated[
        bool,
        typer.Option(
            "--llr",
            help="The scores are calibrated log-likelihood ratios, which actDCF and Cllr need.",
        ),
    ] = False,
    bootstrap: Annotated[
        int,
        typer.Option(
            min=0,
            help="Replicates for confidence intervals, e.g. 1000. Default: 0, none, for speed; "
            "1000 for --compare.",
        ),
    ] = 0,
    by: Annotated[
        Unit,
        typer.Option(
            help="What a replicate draws: utterance, or speaker with all of their trials (wider, "
            "and the honest one for new speakers; needs --protocol)."
        ),
    ] = "utterance",
    seed: Annotated[
        int, typer.Option(min=0, help="Of the replicates; the same gives the same.")
    ] = 0,
    compare: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Scores of a second system on the same trials, for a paired test.",
        ),
    ] = None,
    sasv_key: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Key of ASVspoof 5 track 2; SCORES then hold spk filename cm-score asv-score "
            "sasv-score, and the metrics are a-DCF, min t-DCF and t-EER.",
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Compute error rates and costs of a score file, pooled, by attack and by condition.

    Both forms of the min t-DCF are given, and labelled. With --compare, two systems on the same
    trials; with --sasv-key, track 2 of ASVspoof 5.

    \b
    Example:
      aasist-deploy metrics scores.txt --protocol LA.cm.eval.trl.txt
      aasist-deploy metrics scores.txt --asv-scores LA.asv.eval.gi.trl.scores.txt
      aasist-deploy metrics scores.txt --bootstrap 1000 --compare other.txt
      aasist-deploy metrics sasv.tsv --sasv-key ASVspoof5.dev.track_2.trial.tsv
    """  # noqa: D301  # \b is a real backspace: typer then keeps the lines of the example
    if sasv_key is not None:
        others = {
            "--protocol": protocol,
            "--subset": subset,
            "--fixed-asv": fixed_asv,
            "--negate": negate,
            "--llr": llr,
            "--bootstrap": bootstrap,
            "--compare": compare,
        }
        _refuse_with_sasv([name for name, value in others.items() if value])
        _sasv(
            scores,
            sasv_key,
            _asv(asv_scores, asv_key, subset, fixed=False),
            compat,
            allow_missing=allow_missing,
            json_=json_,
        )
        return
    truth = None if protocol is None else read_key(protocol)
    table = _read(scores, truth, subset, allow_missing=allow_missing)
    table = table.negated() if negate else table
    asv = _asv(asv_scores, asv_key, subset, fixed=fixed_asv)
    how = Bootstrap(n=bootstrap or _REPLICATES_OF_A_COMPARISON, unit=by, seed=seed)
    summary = summarize(
        table,
        asv,
        compat=compat,
        conditions=table.conditions,
        bootstrap=how if bootstrap else None,
        speakers=table.speakers if by == "speaker" else None,
        scores_are_llr=llr,
    )
    if summary.polarity.message:
        advice = "Leave out --negate." if negate else "Pass --negate if spoof is high in this file."
        _warn(f"{summary.polarity.message} {advice}")
    comparison = None
    if compare is not None:
        other = _read(compare, truth, subset, allow_missing=allow_missing)
        _warn_of_reversed(other, compare)
        rates = asv_error_rates(asv) if isinstance(asv, AsvScores) else asv
        comparison = compare_tables(table, other, how, asv=rates, speakers=table.speakers)
    if json_:
        found = {"scores": str(scores), "negated": negate, **summary.to_dict()}
        if comparison is not None:
            found["comparison"] = {"second": str(compare), **comparison.to_dict()}
        print_json(found)
        return
    note = ", scores negated" if negate else ""
    stdout.print(summary_table(summary, f"{scores.name}, {summary.compat}{note}"))
    stdout.print(metrics_table(summary))
    if summary.conditions:
        stdout.print(conditions_table(summary))
    if comparison is not None and compare is not None:
        stdout.print(comparison_table(comparison, scores.name, compare.name))


def _read(
    path: Path,
    truth: tuple[ProtocolEntry, ...] | None,
    subset: str | None,
    *,
    allow_missing: bool,
) -> ScoreTable:
    table = read_scores(path, truth, allow_missing=allow_missing)
    if table.missing or table.extra:
        _warn(
            f"{path}: {len(table.missing)} trials of the protocol have no score and "
            f"{len(table.extra)} scored ones are not in it; all of them are left out."
        )
    if subset is None:
        return table
    names = np.array(table.conditions.get("subset", ()))
    if not names.size:
        raise UsageError(
            f"--subset {subset} needs a protocol that names subsets.",
            fix="Give trial_metadata.txt of ASVspoof 2021 with --protocol, or leave it out.",
        )
    keep = names == subset
    if not keep.any():
        raise UsageError(
            f"There is no subset {subset}; there are {', '.join(sorted(set(names.tolist())))}."
        )
    return _kept(table, np.flatnonzero(keep).tolist())


def _kept(table: ScoreTable, places: list[int]) -> ScoreTable:
    """The trials at these places."""
    conditions = {
        name: tuple(values[place] for place in places) for name, values in table.conditions.items()
    }
    return replace(
        table,
        utterances=tuple(table.utterances[place] for place in places),
        scores=table.scores[places],
        is_bonafide=None if table.is_bonafide is None else table.is_bonafide[places],
        attacks=None if table.attacks is None else tuple(table.attacks[p] for p in places),
        speakers=None if table.speakers is None else tuple(table.speakers[p] for p in places),
        conditions={name: of for name, of in conditions.items() if len(set(of)) > 1},
    )


def _asv(
    scores: Path | None, key: Path | None, subset: str | None, *, fixed: bool
) -> AsvScores | FixedAsvRates | None:
    if fixed and scores is not None:
        raise UsageError("--fixed-asv and --asv-scores are two answers to one question.")
    if fixed:
        return ASVSPOOF5_ASV
    if key is not None and scores is None:
        raise UsageError("--asv-key goes with --asv-scores, which is missing.")
    if scores is None:
        return None
    if key is not None:
        return read_asv_scores_2021(scores, key, subset or "eval")
    return read_asv_scores(scores)


def _refuse_with_sasv(options: list[str]) -> None:
    if options:
        raise UsageError(
            f"{', '.join(options)} and --sasv-key do not go together.",
            fix="Leave the one or the other out.",
        )


def _sasv(
    path: Path,
    key: Path,
    asv: AsvScores | FixedAsvRates | None,
    compat: Compat,
    *,
    allow_missing: bool,
    json_: bool,
) -> None:
    found = read_sasv_scores(path, key, allow_missing=allow_missing)
    if found.missing or found.extra:
        _warn(
            f"{len(found.missing)} pairs of the key have no score and {len(found.extra)} scored "
            "ones are not in it; all of them are left out."
        )
    summary: SasvSummary = summarize_sasv(
        np.select([found.is_target, found.is_nontarget], ["target", "nontarget"], "spoof"),
        sasv_scores=found.sasv,
        cm_scores=found.cm,
        asv_scores=found.asv,
        reference_asv=asv if isinstance(asv, AsvScores) else None,
        compat=compat,
    )
    if json_:
        print_json({"scores": str(path), **summary.to_dict()})
    else:
        stdout.print(sasv_table(summary, f"{path.name}, {compat}"))


def _warn_of_reversed(table: ScoreTable, path: Path) -> None:
    if table.is_bonafide is None:
        return
    scores, truth = table.scores, table.is_bonafide
    message = check_polarity(scores[truth], scores[~truth]).message
    if message:
        _warn(f"{path}: {message}")


def _warn(text: str) -> None:
    stderr.print(f"warning: {text}", style="yellow", markup=False)

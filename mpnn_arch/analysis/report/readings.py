"""Every claim of the paper with the result of its test: whether it survives."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mpnn_arch.analysis.report.analyses import Analysis
from mpnn_arch.checks import counted

SURVIVES, IN_PART, FAILS = "survives", "in part", "does not survive"


@dataclass(frozen=True)
class Reading:
    """One claim and the result of its test.

    Args:
        results: the results file, or the pair.
        claim: in the paper's sense.
        verdict: ``"survives"``, ``"in part"`` or ``"does not survive"``.
        evidence: the numbers.
        rule: when the verdict is which.
    """

    results: str
    claim: str
    verdict: str
    evidence: str
    rule: str


def readings(analysis: Analysis) -> list[Reading]:
    """The claims that one results file bears on."""
    claims = [
        _better_than_dense(analysis),
        _region(analysis),
        _best_graph(analysis),
        _structure(analysis),
        _smooth(analysis),
        _few_graphs(analysis),
        _few_epochs(analysis),
    ]
    return [one for one in claims if one is not None]


def agreement_readings(pairs: pd.DataFrame) -> list[Reading]:
    """Whether architectures agree, alone and beyond density."""
    claims = []
    for row in pairs.to_dict("records"):
        alone = row["pearson_interval"][0] > 0
        beyond = row.get("pearson_beyond_density_interval")
        lasts = isinstance(beyond, tuple) and beyond[0] > 0
        rest = row["pearson_beyond_density"]
        unexplained = "" if pd.isna(rest) else f"; of what density leaves unexplained {rest:.2f}"
        claims.append(
            Reading(
                f"{row['first']} and {row['second']}",
                "architectures agree on which graphs are good",
                _grade(alone and lasts, alone),
                f"Pearson {row['pearson']:.2f} ({row['pearson_interval'][0]:.2f} to "
                f"{row['pearson_interval'][1]:.2f}) over {row['points']} bins{unexplained}",
                "survives: both correlations are above 0 with 95 % confidence; in part: the first",
            )
        )
    return claims


def _better_than_dense(analysis: Analysis) -> Reading | None:
    key = "graphs in the sweet spot against baseline"
    if key not in analysis.effects or analysis.simultaneous is None:
        return None
    one, exists = analysis.effects[key], analysis.simultaneous.exists
    side = 1 if one.difference >= 0 else -1
    low, high = sorted(side * end for end in one.interval)
    return Reading(
        analysis.name,
        "graphs in the sweet spot beat the dense network",
        _grade(exists and one.interval[0] > 0, one.interval[0] > 0),
        f"they err {side * one.difference:.2f} points {'less' if side > 0 else 'more'} on average "
        f"({low:.2f} to {high:.2f}), {one.first:.2f} against {one.second:.2f} %",
        "survives: the landscape is not flat, and the interval is above 0; in part: the latter",
    )


def _region(analysis: Analysis) -> Reading | None:
    if analysis.spot is None or analysis.simultaneous is None:
        return None
    ours, paper = analysis.simultaneous, analysis.spot
    alarms = ""
    if analysis.calibration is not None:
        flat = analysis.calibration.query("depth == 0").set_index("rule")["claimed"]
        alarms = (
            f"; on flat landscapes of this design the paper's rule claims a sweet spot in "
            f"{100 * flat['paper']:.0f} % of cases, the simultaneous one in "
            f"{100 * flat['simultaneous']:.0f} %"
        )
    rest = len(paper.candidates) - len(ours.spot.kept)
    return Reading(
        analysis.name,
        "there is a sweet spot, and the paper's rule finds its extent",
        _grade(ours.exists and len(ours.spot.kept) <= len(paper.kept), ours.exists),
        f"the rule keeps {len(paper.kept)} of {len(paper.candidates)} {paper.unit}s, "
        f"{len(ours.spot.kept)} may be the best by the simultaneous test, {rest} are worse{alarms}",
        "survives: there is one, and no wider than by the paper's rule; in part: there is one",
    )


def _best_graph(analysis: Analysis) -> Reading | None:
    if analysis.bias is None:
        return None
    last = analysis.bias.splits.iloc[-1]
    beats = analysis.baseline is not None and last["held_out"] < analysis.baseline["mean"]
    # Either is what the mean error hides: on a few seeds the first may be 0 by chance.
    hidden = max(last["bias"], analysis.bias.expected - analysis.bias.best)
    bias = round(last["bias"], 2)
    return Reading(
        analysis.name,
        "the best graph is as good as its mean error says",
        _grade(hidden < 0.05, beats),
        f"best of {analysis.bias.graphs:,}: {analysis.bias.best:.2f} %, "
        f"{analysis.bias.expected:.2f} % expected if trained again; chosen on "
        f"{counted(int(last['chosen_on']), 'seed')} its error on the others is "
        f"{abs(bias):.2f} points {'below' if bias < 0 else 'above'}, and it ranks "
        f"{round(last['rank'], 1):g} there",
        "survives: both are less than 0.05 points above its mean; in part: held out, it still "
        "beats the baseline",
    )


def _structure(analysis: Analysis) -> Reading | None:
    if analysis.null is None:
        return None
    one = analysis.null
    lasts = one.gain_interval[0] > 0 and one.permutation_p < 0.05
    return Reading(
        analysis.name,
        "C and L matter beyond density",
        _grade(lasts and one.gain >= 0.05, lasts),
        f"density alone explains {one.density_r2:.2f} of the variance between {one.graphs:,} "
        f"graphs, C and L add {one.gain:.2f} ({one.gain_interval[0]:.2f} to "
        f"{one.gain_interval[1]:.2f}; "
        f"p = {one.permutation_p:.2g} among graphs of equal density)",
        "survives: p < 0.05 and 0.05 of the variance or more is added; in part: less",
    )


def _smooth(analysis: Analysis) -> Reading | None:
    if analysis.surfaces is None:
        return None
    table = analysis.surfaces.set_index("function")
    quadratic, density = table.loc["quadratic"], table.loc["density"]
    ceiling, least, most = table.loc["ceiling", ["r2", "r2_low", "r2_high"]]
    # Unknown with one training seed.
    bound = "" if pd.isna(ceiling) else f", of at most {ceiling:.2f} ({least:.2f} to {most:.2f})"
    if table.loc[["quadratic", "quadratic and density"], "r2"].max() > most:
        bound += " if a graph's runs were independent, which they do not seem to be"
    curved = [one.curvature_p < 0.05 and one.curvature > 0 for one in analysis.slices.values()]
    return Reading(
        analysis.name,
        "error is a smooth, U-shaped function of C and L",
        _grade(quadratic["gain_low"] > 0 and bool(curved) and all(curved), any(curved)),
        f"cross-validated, a quadratic surface explains {quadratic['r2']:.2f} of the variance, "
        f"density alone {density['r2']:.2f}, both {table.loc['quadratic and density', 'r2']:.2f}"
        f"{bound}; {sum(curved)} of {len(curved)} slices curve upwards",
        "survives: better than density alone and all slices curve upwards; in part: some slice",
    )


def _few_graphs(analysis: Analysis) -> Reading | None:
    if not analysis.few_graphs:
        return None
    count, one = next(iter(analysis.few_graphs.items()))
    return Reading(
        analysis.name,
        "few graphs show the landscape",
        _grade(one.pearson_interval[0] > 0.8, one.pearson_interval[0] > 0.5),
        f"{count} graphs against all: Pearson {one.pearson:.2f} ({one.pearson_interval[0]:.2f} to "
        f"{one.pearson_interval[1]:.2f}) over {one.points} bins",
        "survives: above 0.8 with 95 % confidence; in part: above 0.5",
    )


def _few_epochs(analysis: Analysis) -> Reading | None:
    if analysis.few_epochs is None or analysis.few_epochs.empty:
        return None
    table = analysis.few_epochs
    early = table[table["epoch"] >= 3].iloc[0] if (table["epoch"] >= 3).any() else table.iloc[-1]
    rule = "survives: above 0.8 with 95 % confidence; in part: above 0.5"
    if pd.isna(early["pearson"]):
        alike = f"after epoch {early['epoch']:.0f} all graphs have one error"
        return Reading(analysis.name, "few epochs rank the graphs", FAILS, alike, rule)
    # Unknown with one training seed.
    others = early["pearson_other_seeds"]
    across = "" if pd.isna(others) else f", with the last of other training seeds {others:.2f}"
    return Reading(
        analysis.name,
        "few epochs rank the graphs",
        _grade(early["pearson_low"] > 0.8, early["pearson_low"] > 0.5),
        f"epoch {early['epoch']:.0f} against the last: Pearson {early['pearson']:.2f} "
        f"({early['pearson_low']:.2f} to {early['pearson_high']:.2f}){across}",
        rule,
    )


def _grade(whole: object, part: object) -> str:
    return SURVIVES if whole else IN_PART if part else FAILS

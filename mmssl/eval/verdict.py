"""The answer in words: did pretraining help on this data, by how much, and from how many labels on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmssl.eval import folds
from mmssl.eval.evaluate import BOOSTED, NAMES, PROTOCOLS, Evaluation
from mmssl.eval.interval import Difference, Hits, paired_difference
from mmssl.eval.measures import ACCURACY, Measure
from mmssl.eval.records import Subjects
from mmssl.eval.retrieval import TEXT_TO_IMAGE
from mmssl.eval.zeroshot import PROTOCOL as ZERO_SHOT

Outcome = Literal["helped", "no-difference", "hurt", "no-labels"]


@dataclass(frozen=True)
class Verdict:
    """Did pretraining help?

    Args:
        outcome: in one word.
        headline: in one sentence, with the numbers.
        details: further sentences: the strongest control, the label budget, what limits the answer.
        difference: accuracy (or AUC, or R²) of the pretrained encoder minus that of the untrained one; NaN without
            labels.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    outcome: Outcome
    headline: str
    details: tuple[str, ...]
    difference: float
    low: float
    high: float


def verdict(
    evaluations: Sequence[Evaluation],
    subjects: Subjects,
    *,
    primary: str = PROTOCOLS["svm"].id,
    examples: str = "examples",
    entities: str = "groups",
) -> Verdict:
    """Judge the pretrained encoder against the same encoder untrained and against the strongest control.

    A difference counts where its 95 % cluster-bootstrap interval over test groups and seeds excludes 0 and at least six
    groups differ (``interval.Difference.sign``).

    Args:
        evaluations: one for every subject and seed, all on the same test examples.
        subjects: who is who.
        primary: id of the protocol that decides.
        examples: what a test example is, in the plural.
        entities: what a group of test examples is, in the plural.

    Raises:
        ValueError: no evaluation of the pretrained or untrained encoder, no seed in common, different test examples.
    """
    ours, theirs, groups = _pair(evaluations, subjects.pretrained, subjects.untrained, primary)
    gap = paired_difference(ours, theirs, groups)
    a, b = float(ours.mean()), float(theirs.mean())
    measure = _measure(evaluations, primary)
    scores = f"{_values(measure, a, b)} with the same encoder untrained"
    size = f"{_count(len(ours), 'seed')}, {ours.shape[-1]} test {examples}"
    if groups is not None:
        size += f" of {gap.groups} {entities}"
    unit = " points" if measure.decimals is None else ""
    numbers = f"{measure.change(gap.value)}{unit} ({_interval(measure, gap, of='')}; {size})"
    if gap.sign > 0:
        headline = f"Pretraining helped: {scores}, {numbers}."
    elif gap.sign < 0:
        headline = f"Pretraining hurt: {scores}, {numbers}."
    elif min(a, b) == 1 and measure.of == "class":
        headline = (
            "This test set cannot tell them apart: the pretrained and the untrained encoder are both right on every "
            f"example ({size})."
        )
    elif min(a, b) >= 0.99:
        headline = f"This test set cannot tell them apart: {scores} leaves no room for a difference, {numbers}."
    else:
        headline = f"No difference that this test set can show: {scores}, {numbers}."
    details = [_few_groups(gap, examples if groups is None else entities)]
    details.append(_strongest_control(evaluations, subjects, primary))
    details.append(_zero_shot(evaluations, subjects))
    details += _fine_tuned(evaluations, subjects)
    details.append(_appended(evaluations, subjects))
    details.append(_label_budget(evaluations, subjects))
    outcome: Outcome = "helped" if gap.sign > 0 else "hurt" if gap.sign < 0 else "no-difference"
    return Verdict(outcome, headline, tuple(d for d in details if d), gap.value, gap.low, gap.high)


def without_labels(health: Sequence[str] = ()) -> Verdict:
    """Say that there is nothing to score, and what is known instead.

    Args:
        health: what the run's health says of the embeddings, in sentences.
    """
    headline = "No labels, so no score: whether pretraining helped cannot be measured on this data."
    if health:
        headline = f"No labels, so no score: {health[0]}"
    return Verdict("no-labels", headline, tuple(health[1:]), math.nan, math.nan, math.nan)


def _measure(evaluations: Sequence[Evaluation], protocol: str) -> Measure:
    """What decides under this protocol; another may have a measure of its own."""
    return next(e.measure for e in evaluations if protocol in e.hits)


def _values(measure: Measure, ours: float, theirs: float) -> str:
    """Two values side by side, with the name of what is not a plain percentage."""
    name = "" if measure is ACCURACY else f"{measure.name} "
    return f"{name}{measure.show(ours)} against {measure.show(theirs)}"


def _interval(measure: Measure, gap: Difference, of: str = " of the difference") -> str:
    """Of a bootstrap over groups, which one group is too few for."""
    if gap.groups < 2:
        return "no interval from one test entity"
    return f"95 % interval{of} {measure.change(gap.low)} to {measure.change(gap.high)}"


def _pair(
    evaluations: Sequence[Evaluation],
    ours: str,
    theirs: str,
    protocol: str | None,
    budget: int | None = None,
    *,
    their_protocol: str | None = None,
) -> tuple[Hits, Hits, npt.NDArray[np.generic] | None]:
    """Stack the hits of two subjects over the seeds that both have; one seed of theirs serves for all of ours."""

    def by_seed(subject: str, protocol: str | None) -> dict[int, Hits]:
        found = [e for e in evaluations if e.subject == subject]
        if protocol is not None:
            return {e.seed: e.hits[protocol] for e in found if protocol in e.hits}
        assert budget is not None
        return {e.seed: e.few_label_hits[budget] for e in found if budget in e.few_label_hits}

    a, b = by_seed(ours, protocol), by_seed(theirs, their_protocol or protocol)
    for subject, hits in ((ours, a), (theirs, b)):
        if not hits:
            raise ValueError(f"no evaluation of '{subject}' with {protocol or f'{budget} labels a class'}")
    if len(b) > 1:
        seeds = sorted(a.keys() & b.keys())
        if not seeds:
            raise ValueError(f"'{ours}' has seeds {sorted(a)} and '{theirs}' {sorted(b)}: none in common to compare")
        left, right = [a[s] for s in seeds], [b[s] for s in seeds]
    else:
        left, right = [a[s] for s in sorted(a)], list(b.values())
    if len({hits.shape for hits in left + right}) > 1:
        raise ValueError(f"'{ours}' and '{theirs}' were not evaluated on the same test examples")
    groups = next((e.groups for e in evaluations if e.subject == ours), None)
    return np.stack(left), np.stack(right), groups


def _few_groups(gap: Difference, unit: str) -> str:
    if gap.sign or not 0 < gap.differing < 6 or gap.low <= 0 <= gap.high:
        return ""
    return (
        f"The two encoders differ on {gap.differing} of the {gap.groups} test {unit} only; "
        "it takes 6 before chance can be ruled out at 95 %."
    )


def _strongest_control(evaluations: Sequence[Evaluation], subjects: Subjects, primary: str) -> str:
    """Controls have no say in how they predict but by the protocol that decides, or by trees of their own."""
    value: dict[tuple[str, str], float] = {}
    for control in subjects.controls:
        for protocol in (primary, BOOSTED):
            hits = [e.hits[protocol] for e in evaluations if e.subject == control and protocol in e.hits]
            if hits:
                value[control, protocol] = float(np.mean(hits))
    if not value:
        return ""
    best, protocol = max(value, key=lambda entry: value[entry])
    ours, theirs, groups = _pair(evaluations, subjects.pretrained, best, primary, their_protocol=protocol)
    gap = paired_difference(ours, theirs, groups)
    measure = _measure(evaluations, primary)
    name, own = subjects.name(best), subjects.name(subjects.pretrained)
    scores = _values(measure, float(theirs.mean()), float(ours.mean()))
    interval = _interval(measure, gap)
    size = measure.size(gap.value)
    if gap.sign < 0:
        return f"{name}, the strongest control, remains ahead by {size} ({scores}; {interval})."
    if gap.sign > 0:
        return f"{name}, the strongest control, is behind {own} by {size} ({scores}; {interval})."
    return f"{name}, the strongest control, cannot be told from {own} ({scores}; {interval})."


def _zero_shot(evaluations: Sequence[Evaluation], subjects: Subjects) -> str:
    """What the names of classes alone say, where both encoders were asked."""
    if any(all(ZERO_SHOT not in e.hits for e in evaluations if e.subject == s) for s in subjects.order[:2]):
        return ""
    ours, theirs, groups = _pair(evaluations, subjects.pretrained, subjects.untrained, ZERO_SHOT)
    gap = paired_difference(ours, theirs, groups)
    outcome = {1: "pretraining helped", 0: "no difference shows", -1: "pretraining hurt"}[gap.sign]
    scores = f"{_values(ACCURACY, float(ours.mean()), float(theirs.mean()))} with the same encoder untrained"
    return f"Zero-shot, {outcome}: {scores} ({_interval(ACCURACY, gap)})."


def _fine_tuned(evaluations: Sequence[Evaluation], subjects: Subjects) -> list[str]:
    """One sentence for every way of fine-tuning that both encoders went through."""
    tried = [
        {protocol for e in evaluations if e.subject == subject for protocol in e.hits}
        for subject in (subjects.pretrained, subjects.untrained)
    ]
    said = []
    measure = evaluations[0].measure
    others = {BOOSTED, folds.PROTOCOL, TEXT_TO_IMAGE, ZERO_SHOT, *(p.id for p in PROTOCOLS.values())}
    for protocol in sorted((tried[0] & tried[1]) - others):
        ours, theirs, groups = _pair(evaluations, subjects.pretrained, subjects.untrained, protocol)
        gap = paired_difference(ours, theirs, groups)
        outcome = {1: "pretraining helped", 0: "no difference shows", -1: "pretraining hurt"}[gap.sign]
        name = NAMES.get(protocol, protocol)
        scores = f"{_values(measure, float(ours.mean()), float(theirs.mean()))} from random weights"
        interval = _interval(measure, gap)
        said.append(f"{name[0].upper()}{name[1:]} on the training labels, {outcome}: {scores} ({interval}).")
    return said


def _appended(evaluations: Sequence[Evaluation], subjects: Subjects) -> str:
    """Does the embedding help boosted trees, beside the columns that they have anyway?"""
    boosted = {e.subject for e in evaluations if BOOSTED in e.hits}
    alone = [control for control in subjects.controls if control in boosted]
    if subjects.pretrained not in boosted or not alone:
        return ""
    ours, theirs, groups = _pair(evaluations, subjects.pretrained, alone[0], BOOSTED)
    gap = paired_difference(ours, theirs, groups)
    measure = evaluations[0].measure
    outcome = {
        1: "helps boosted trees",
        0: "makes no difference to boosted trees that shows",
        -1: "hurts boosted trees",
    }[gap.sign]
    scores = f"{_values(measure, float(ours.mean()), float(theirs.mean()))} with the columns alone"
    interval = _interval(measure, gap)
    return f"Adding the embedding to the columns {outcome}: {scores} ({interval})."


def _label_budget(evaluations: Sequence[Evaluation], subjects: Subjects) -> str:
    budgets = [
        {k for e in evaluations if e.subject == subject for k in e.few_label_hits}
        for subject in (subjects.pretrained, subjects.untrained)
    ]
    signs = {
        k: paired_difference(*_pair(evaluations, subjects.pretrained, subjects.untrained, None, k)).sign
        for k in sorted(budgets[0] & budgets[1])
    }
    if not signs:
        return ""
    each = "" if evaluations[0].measure.of == "number" else " a class"
    words = {1: "the pretrained encoder is ahead of the untrained one", 0: "no difference shows", -1: "it is behind"}
    runs = [(sign, list(run)) for sign, run in groupby(signs, key=lambda k: signs[k])]
    parts = []
    for i, (sign, run) in enumerate(runs):
        what = words[sign] if sign >= 0 or i else "the pretrained encoder is behind the untrained one"
        if i and i == len(runs) - 1:
            parts.append(f"from {run[0]} on {what}")
            continue
        span = f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}"
        unit = "" if i else (" label" if run == [1] else " labels") + each
        parts.append(f"{'with' if i else 'With'} {span}{unit} {what}")
    return "; ".join(parts) + "."


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"

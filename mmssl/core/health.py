"""Is the encoder learning or collapsing? Numbers of an embedding, and what a history of them says in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mmssl.core.objectives.alignment import MAX_SCALE


@torch.no_grad()
def embedding_health(z: Tensor) -> dict[str, Tensor]:
    """How far embeddings spread, and over how many directions.

    Args:
        z: ``(N, D)`` embeddings of N different inputs.

    Returns:
        ``"spread"``: mean standard deviation of the dimensions of z / ‖z‖, times √D; 0 if all embeddings are the same
        vector, 1 if they are spread evenly over the sphere (Chen and He, SimSiam, CVPR 2021, section 4.1).
        ``"effective_rank"``: exp of the entropy of the normalised singular values of the centred embeddings, between 1
        and min(N − 1, D) (Roy and Vetterli, 2007; RankMe of Garrido et al., ICML 2023, without its centring).
    """
    finite = z.isfinite().all()  # of a run that diverged nothing can be said, and the SVD would raise
    z = torch.where(finite, z.float(), 0.0)
    unit = torch.nn.functional.normalize(z, dim=1)
    spread = unit.std(dim=0, unbiased=False).mean() * math.sqrt(z.shape[1])
    singular = torch.linalg.svdvals(z - z.mean(dim=0))
    share = singular / singular.sum().clamp(min=torch.finfo(z.dtype).tiny)
    entropy = -torch.special.xlogy(share, share).sum()
    return {
        "spread": torch.where(finite, spread, math.nan),
        "effective_rank": torch.where(finite, entropy.exp(), math.nan),
    }


def distinct_share(x: Tensor) -> float:
    """Share of inputs ``(N, …)`` that are not the copy of an earlier one; missing values count as equal."""
    rows = x.flatten(1).nan_to_num(nan=torch.finfo(torch.float32).max)
    return len(torch.unique(rows, dim=0)) / len(rows)


@dataclass(frozen=True)
class Diagnosis:
    """What the history of a run says: one word for programs, sentences for people."""

    status: Literal["healthy", "warning", "collapsed"]
    findings: tuple[str, ...]


def diagnose(history: Sequence[Mapping[str, float]], *, distinct: float = 1.0) -> Diagnosis:
    """Read the logged metrics of a run and say what is wrong, if anything, and why it probably is.

    Args:
        history: rows with ``step`` and any of ``loss``, ``collapse_loss``, ``spread``, ``effective_rank``,
            ``teacher_entropy`` (of what it assigns a sample to, one of K prototypes; ``collapse_loss`` is then ln K),
            ``code_use`` (of a quantizer: 0 if each of its codebooks has one entry in use, 1 if all are used evenly),
            ``unit_perplexity`` (of clusters that are predicted),
            ``scale`` (learnable, of cosines, at most 100), ``skipped`` (steps skipped so far), ``lr``; the first row is
            from before or shortly after the start.
        distinct: share of the inputs that are not copies of another, from `distinct_share`.
    """
    findings: list[str] = []
    if not history:
        return Diagnosis("healthy", ("nothing was logged yet",))
    last = history[-1]
    collapsed = _collapse(history, distinct)
    if collapsed:
        findings.append(collapsed)
    elif len(history) >= 4:
        relative = last.get("collapse_loss", 0.0) > 0  # to the collapse value, which depends on the size of the crops
        losses = [
            row["loss"] / (row["collapse_loss"] if relative else 1.0)
            for row in history
            if math.isfinite(row.get("loss", math.nan)) and (not relative or row.get("collapse_loss", 0.0) > 0)
        ]
        quarter = max(1, len(losses) // 4)
        if relative and len(losses) >= 3 and min(losses[-3:]) > ABOVE_COLLAPSE:
            findings.append(
                f"The loss ({last['loss']:.3g}) is above the value that it has when all embeddings are the same "
                f"({last['collapse_loss']:.3g}): the encoder is worse than one that tells nothing apart. Lower the "
                "learning rate (train.lr), or train for longer."
            )
        elif losses and (before := _mean(losses[:quarter])) <= (after := _mean(losses[-quarter:])):
            values = (
                f"{before:.0%} of its collapse value at the start, {after:.0%} now"
                if relative
                else f"{before:.3g} at the start, {after:.3g} now"
            )
            findings.append(
                f"The loss has not fallen ({values}): the objective is not being learnt. Try another learning rate "
                "(train.lr), train for longer, or give inputs that hold more to learn from."
            )
        rank, first = last.get("effective_rank", math.nan), history[0].get("effective_rank", math.nan)
        if rank < 2 and rank < first / 2:
            findings.append(
                f"The embeddings use hardly more than one direction (effective rank {rank:.1f}, {first:.1f} at the "
                "start): dimensional collapse. A smaller learning rate or more varied inputs may help."
            )
    if diverged := _diverged_scale(history):
        findings.append(diverged)
    units = [row["unit_perplexity"] for row in history if "unit_perplexity" in row]
    if units and _mean(units) < FEW_UNITS:
        findings.append(
            f"Nearly all frames are of one cluster (perplexity {_mean(units):.2f}), so there is nothing to predict: "
            "look for silence or a constant level in the recordings, or make more clusters."
        )
    skipped = last.get("skipped", 0.0)
    if skipped > 0:
        findings.append(
            f"{int(skipped)} of {int(last['step'])} steps were skipped because a gradient was not finite. "
            "Look for extreme values in the data, or lower train.lr."
        )
    if distinct < 0.5:
        findings.append(f"Only {distinct:.0%} of the inputs looked at differ from each other.")
    if collapsed:
        return Diagnosis("collapsed", tuple(findings))
    if findings:
        return Diagnosis("warning", tuple(findings))
    return Diagnosis("healthy", (_healthy_sentence(last),))


COLLAPSED_SPREAD = 0.01  # of 1 for even spread; untrained encoders lie between 0.05 and 0.8
COLLAPSED_LOSS = 0.001  # relative distance to the loss that identical embeddings would have; training starts near it
EVEN = 0.01  # relative distance of the entropy of a teacher to that of an even spread
ONE_PROTOTYPE_LOSS = 0.05  # of ln K; a student that tells samples apart is never that sure of its teacher's choice
UNUSED = 0.005  # of a codebook's entries beyond one; learning starts with a third of them and keeps a tenth and more
FEW_UNITS = 1.5  # of the hundred and more that are usual
LOOKS = 3  # logging steps in a row that must agree
ABOVE_COLLAPSE = 1.05  # times that loss; usual in the first steps, wrong later
LARGEST_SCALE = 0.999 * MAX_SCALE  # where a learnable scale is clamped, nearly
UNLEARNT = 0.5  # of the collapse value; pairs that are told apart better may well have a scale at its limit


def _collapse(history: Sequence[Mapping[str, float]], distinct: float) -> str:
    """That it is one, and why; an empty string if it is none."""
    last = history[-1]
    spread = last.get("spread", math.nan)
    if spread < COLLAPSED_SPREAD:
        return (
            f"Collapse: all embeddings are nearly the same vector (spread {spread:.1g}, 1 would be even). "
            + _likely_cause(history, distinct)
        )
    used = [row["code_use"] for row in history[-LOOKS:] if "code_use" in row]
    if len(used) == LOOKS and max(used) < UNUSED:
        return (
            f"Collapse of the codebooks: nearly all frames get the same code vector (use {last['code_use']:.1g} of 1), "
            "so the loss falls although nothing is learnt. Raise the weight of the diversity (method.diversity), or "
            "lower the learning rate (train.lr)."
        )
    recent = [
        row
        for row in history[-LOOKS:]
        if math.isfinite(row.get("loss", math.nan)) and row.get("collapse_loss", 0.0) > 0
    ]
    if len(recent) < LOOKS:
        return ""
    if all(math.isfinite(row.get("teacher_entropy", math.nan)) for row in recent):
        return _collapsed_teacher(recent)
    if max(abs(row["loss"] / row["collapse_loss"] - 1) for row in recent) < COLLAPSED_LOSS:
        return (
            f"Collapse: the loss stays at {last['loss']:.3f}, the value that it has when all embeddings are the same "
            f"({last['collapse_loss']:.3f}). " + _likely_cause(history, distinct)
        )
    return ""


def _collapsed_teacher(rows: Sequence[Mapping[str, float]]) -> str:
    """The two ways in which self-distillation can end (Caron et al., DINO, ICCV 2021, section 5.3).

    The loss alone says little here: it starts near ln K, since a student without training is unsure of everything.
    """
    last = rows[-1]
    certainty = [1 - row["teacher_entropy"] / row["collapse_loss"] for row in rows]
    if max(certainty) < EVEN:
        return (
            "Collapse: the teacher spreads every sample evenly over all prototypes (entropy "
            f"{last['teacher_entropy']:.3f} of ln K = {last['collapse_loss']:.3f}), and there is nothing to learn from "
            "it. A lower teacher temperature, a higher learning rate or a longer training works against that."
        )
    losses = [row["loss"] / row["collapse_loss"] for row in rows]
    if min(certainty) > 1 - EVEN and max(losses) < ONE_PROTOTYPE_LOSS:
        return (
            f"Collapse: the teacher assigns all samples to one prototype (entropy {last['teacher_entropy']:.2g}, "
            f"loss {last['loss']:.2g}, ln K = {last['collapse_loss']:.3f}). Centring, or a higher teacher "
            "temperature, works against that."
        )
    return ""


def _diverged_scale(history: Sequence[Mapping[str, float]]) -> str:
    """That the learnable scale of a loss over pairs went to one of its ends, and what to do; else an empty string."""
    recent = [row for row in history[-LOOKS:] if "scale" in row]
    if len(recent) < LOOKS:
        return ""
    scale, relative = recent[-1]["scale"], recent[-1]["loss"] / recent[-1]["collapse_loss"]
    if max(row["scale"] for row in recent) < 1:
        return (
            f"The scale of the similarities fell to {scale:.2g} (a temperature of {1 / scale:.2g}): the loss got "
            "smaller by counting no pair for much. Lower the learning rate (train.lr), and look whether the pairs "
            "belong together."
        )
    if min(row["scale"] for row in recent) > LARGEST_SCALE and relative > UNLEARNT:
        return (
            f"The scale of the similarities rose to its limit, {MAX_SCALE:g}, with the loss still at {relative:.0%} of "
            "its collapse value: single wrong pairs decide the training. Lower the learning rate (train.lr), and look "
            "for pairs that do not belong together."
        )
    return ""


def _likely_cause(history: Sequence[Mapping[str, float]], distinct: float) -> str:
    first, last = history[0], history[-1]
    if distinct < 0.5:
        return (
            f"Likely cause: the data. Only {distinct:.0%} of the inputs differ from each other, so there is nothing to "
            "tell apart; look for copies, constant channels, filled gaps or inputs that are cut too small."
        )
    if last.get("skipped", 0.0) > 0:
        return "Likely cause: the training diverged, gradients were not finite and their steps skipped; lower train.lr."
    if first.get("spread", 0.0) > 5 * COLLAPSED_SPREAD:
        rates = [row["lr"] for row in history if "lr" in row]
        lr = f" ({max(rates):.2g} at its highest)" if rates else ""
        return (
            f"The embeddings were spread at the start. Likely cause: a learning rate that is too high{lr}; try a tenth."
        )
    return (
        "The embeddings hardly differed before training either. Likely cause: inputs that differ by little compared "
        "with their common level; check the standardisation and for channels with single extreme values."
    )


def _healthy_sentence(last: Mapping[str, float]) -> str:
    parts = []
    if "spread" in last:
        parts.append(f"the spread of the embeddings is {last['spread']:.2f} (1 would be even)")
    if "effective_rank" in last:
        parts.append(f"their effective rank {last['effective_rank']:.1f}")
    if last.get("collapse_loss", 0.0) > 0 and "loss" in last:
        parts.append(f"the loss is at {last['loss'] / last['collapse_loss']:.0%} of its collapse value")
    return "No sign of collapse" + (": " + ", ".join(parts) if parts else "") + "."


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

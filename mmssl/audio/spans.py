"""Which frames wav2vec 2.0 and HuBERT hide: spans that are drawn for a whole batch at once, on the device.

The authors draw int(p · T / span + u) starts in every row without replacement, let spans overlap, and cut every row to
the smallest number of masked frames in the batch (Baevski et al., NeurIPS 2020, 2006.11477). What is drawn is known
beforehand on average: .49 of the frames for p = .65, spans of 10 and 100 frames and more, but .70 of 19 frames.

Here every clip has exactly that average number. Spans are drawn one after the other until they cover it, and the last
one is cut. So the number follows from the length alone, nobody asks a GPU for it, and a short clip does not decide for
a long one beside it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

MORE_DRAWS = 16  # than a fifth above what is needed on average


def span_masks(frames: Tensor, width: int, *, probability: float = 0.65, span: int = 10) -> Tensor:
    """Draw spans in every row: ``(B, N)`` bool, True at masked frames.

    Args:
        frames: ``(B,)`` int64, frames of each clip. One that is shorter than `least_frames` has none masked.
        width: N, frames of the longest, a number that the caller knows.
        probability: p of the paper: masked frames over all frames, if spans did not overlap.
        span: frames of a span.
    """
    if width < least_frames(span):
        return torch.zeros(len(frames), width, dtype=torch.bool, device=frames.device)
    counts = _counts(width, probability, span, frames.device)[frames, None]  # (B, 1)
    share = masked_count(width, probability=probability, span=span) / width
    draws = int(-1.2 * math.log1p(-share) * width / span) + MORE_DRAWS
    places = (frames - span).clamp(min=1)[:, None]
    starts = (torch.rand(len(frames), draws, device=frames.device) * places).long()
    # the draw that first starts a span at each place, `span - 1` of them before the first frame
    spare = _spare_spans(width, span, draws, frames.device)
    order = torch.arange(draws, dtype=spare.dtype, device=frames.device).expand_as(starts)
    first = spare.repeat(len(frames), 1).scatter_reduce_(1, starts + (span - 1), order, "amin")
    drawn = _sliding_minimum(first, span)  # (B, N), the draw that first covers a frame
    numbers = draws + math.ceil(width / span)
    newly = drawn.new_zeros(len(frames), numbers).scatter_add_(1, drawn.long(), torch.ones_like(drawn))
    covered = newly.cumsum(dim=1)
    last = (covered < counts).sum(dim=1, keepdim=True)  # the draw that reaches the count
    missing = counts - (covered - newly).gather(1, last)
    start = torch.where(last < draws, starts.gather(1, last.clamp(max=draws - 1)), _beside(last - draws, width, span))
    last = last.to(drawn.dtype)
    mask = drawn < last
    # the last span is cut to what is missing
    inside = start + torch.arange(span, device=frames.device)
    new = drawn.gather(1, inside) == last
    return mask.scatter_(1, inside, mask.gather(1, inside) | (new & (new.cumsum(dim=1) <= missing)))


@lru_cache(maxsize=256)
def _spare_spans(width: int, span: int, draws: int, device: torch.device) -> Tensor:
    """``(width + span - 1,)``: spans beside each other, numbered after the random draws; so every count is reached.

    Numbers of 16 bits where they suffice: a quarter of the memory, half the time on a CPU.
    """
    beside = torch.arange(math.ceil(width / span), device=device)
    row = torch.full((width + span - 1,), draws + len(beside), device=device)
    row[_beside(beside, width, span) + (span - 1)] = draws + beside
    return row.to(torch.int16 if draws + width < 1 << 15 else torch.int32)


def _beside(number: Tensor, width: int, span: int) -> Tensor:
    """Where spans start that lie one beside the other; the last ends with the last frame."""
    return (number * span).clamp(min=0, max=width - span)


def _sliding_minimum(x: Tensor, window: int) -> Tensor:
    """``(B, N)`` to ``(B, N - window + 1)``, by minima over 2, 4, 8, … neighbours."""
    size = 1
    while 2 * size <= window:
        x = torch.minimum(x[:, :-size], x[:, size:])
        size *= 2
    rest = window - size
    return torch.minimum(x[:, :-rest], x[:, rest:]) if rest else x


def masked_frames(mask: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Where the masked frames of each row are.

    Args:
        mask: ``(B, N)``.
        most: M, at least as many as any row has: `masked_count` of N frames.

    Returns:
        ``(B, M)`` int64, in order, then 0 where a row has fewer; ``(B, M)`` bool, False there.
    """
    batch, width = mask.shape
    place = torch.arange(width, device=mask.device).expand(batch, -1)
    rank = mask.cumsum(dim=1)
    index = rank.new_zeros(batch, most + 1)
    index.scatter_(1, torch.where(mask, rank - 1, most), place)
    valid = torch.arange(most, device=mask.device) < rank[:, -1:]
    return index[:, :most] * valid, valid


def least_frames(span: int) -> int:
    """Two spans that are not the same, with a frame left to see."""
    return span + 2


@lru_cache(maxsize=1 << 16)
def masked_count(frames: int, *, probability: float = 0.65, span: int = 10) -> int:
    """How many of so many frames are masked: the average number of the authors' draws, rounded.

    Args:
        frames: T of a clip; 0 are masked where they are fewer than `least_frames`.
        probability, span: see `span_masks`.

    Raises:
        ValueError: the settings are impossible.
    """
    if not 0 < probability < 1:
        raise ValueError(f"the probability of a mask must lie between 0 and 1, got {probability}")
    if span < 1:
        raise ValueError(f"a span must be at least one frame, got {span}")
    if frames < least_frames(span):
        return 0
    places = frames - span  # starts
    # how many of them cover a frame: 1, 2, … up to this number, which most frames have, then down to 0 at the last
    usual = min(span, places)

    def covered(draws: int) -> float:
        draws = min(max(draws, 2), places)
        missed, frames_covered = 1.0, 0.0
        for over in range(1, usual + 1):
            missed *= max(places - draws - over + 1, 0) / (places - over + 1)
            frames_covered += (1 - missed) * (2 if over < usual else frames - 1 - 2 * (usual - 1))
        return frames_covered

    part, whole = math.modf(probability * frames / span)
    return round((1 - part) * covered(int(whole)) + part * covered(int(whole) + 1))


@lru_cache(maxsize=256)
def _counts(width: int, probability: float, span: int, device: torch.device) -> Tensor:
    """``(width + 1,)`` int64: `masked_count` of every number of frames."""
    return torch.tensor([masked_count(t, probability=probability, span=span) for t in range(width + 1)], device=device)

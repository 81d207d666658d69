"""Which numbers a setting can be, so that an impossible one is refused by name before any data is read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

# Kinds of numbers: what a sentence says of them, and whether a value is one.
KINDS = {
    "count": ("at least 1", lambda value: value >= 1),
    "natural": ("at least 0", lambda value: value >= 0),
    "positive": ("positive", lambda value: value > 0),
    "share": ("between 0 and 1", lambda value: 0 <= value <= 1),
    "any": ("a finite number", lambda _: True),
}

# The settings of all recipes by name; one name means the same kind of number wherever it stands.
NAMES = {
    "count": """
        accumulate batch_size bottleneck cell_dim channels checkpoint_every chunks clusters code_dim context convs
        corruptions crop_multiple decoder_dim decoder_heads depth dim entries future groups head heads hidden horizons
        kernel kernels layer layers local_size log_every max_categories max_clips max_images max_length max_rows
        max_segments max_windows mels negatives neighbourhood out pairs patch patience permutation position_groups
        position_kernel prototypes rows season seeds size span steps stride vocabulary width widths window windows
        """,
    "natural": """
        alpha beta cache contextual covariance crop_frequency crop_time ctc decoder_depth delay diversity draws
        feature_penalty freeze gain gamma invariance jitter lambd least_steps local lr lr_encoder lr_head
        magnitude_warp pitch queue rotation scaling seed shift shortest shown sigma speed strength temporal_unit
        time_warp variance warmup weight weight_decay workers
        """,
    "positive": """
        clip_norm crop epochs epsilon labels layer_decay local_crop rate student_temperature teacher_temperature
        temperature warmup_teacher_temperature
        """,
    "share": """
        attention_dropout betas blur centre_momentum channel_dropout corruption drop_edges drop_features drop_path
        dropout flip fraction fractions frequency_mask frequency_mix grayscale jitter_p layerdrop mask mask_rate
        mask_ratio max_bad mixup momentum noise_p polarity probability queue_from replace restart reverb seen shares
        solarize test_fraction time_mask train_fraction validation words
        """,
    "any": "bias noise",
}
LIMITS = {name: kind for kind, names in NAMES.items() for name in names.split()}
MAY_BE_EMPTY = ("head",)  # no hidden layer


def check_limits(cfg: Any, prefix: str = "") -> None:
    """Refuse a number that cannot be meant, such as a negative width.

    What depends on the data or on other settings is checked where it is used.

    Args:
        cfg: a recipe's dataclass as the user gave it, or a section of it.
        prefix: of the section, such as ``"train."``, for the message.

    Raises:
        ValueError: the value is outside of what a setting of this name can be; names it.
    """
    for key, value, optional in _leaves(cfg, prefix):
        name = key.rsplit(".", 1)[-1]
        if isinstance(value, list) and not value and LIMITS.get(name) == "count" and name not in MAY_BE_EMPTY:
            raise ValueError(f"{key} is an empty list; it takes at least one number{' or null' if optional else ''}")
        for number in _numbers(value):
            words, holds = KINDS[LIMITS[name] if math.isfinite(number) else "any"]
            if not math.isfinite(number) or not holds(number):
                what = f"each number of {key}" if isinstance(value, list) else key
                raise ValueError(f"{what} must be {words}{' or null' if optional else ''}, got {value}")


def _leaves(cfg: Any, prefix: str) -> Iterator[tuple[str, Any, bool]]:
    """Dotted name and value of every setting, and whether it may be None."""
    hints = get_type_hints(type(cfg))
    for field in fields(cfg):
        value = getattr(cfg, field.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, type(None) in get_args(hints[field.name])


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value

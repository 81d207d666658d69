"""Zero-shot classification: an image belongs to the class whose name, put into sentences, is most like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmssl.eval.evaluate import Evaluation, evaluate_predictions
from mmssl.eval.features import Features, Labels

PROTOCOL = "zero-shot/1"
SLOT = "{}"  # where the name of the class goes


def prompts(classes: Sequence[object], templates: Sequence[str]) -> list[str]:
    """The name of each class in each template: class by class, ``C · P`` texts.

    Raises:
        ValueError: there is no template, or one has no place for the name.
    """
    if not templates:
        raise ValueError("evaluate.prompts is empty; a plain '{}' is the name of the class alone")
    if wrong := [template for template in templates if template.count(SLOT) != 1]:
        raise ValueError(f"evaluate.prompts: {wrong[0]!r} must hold {SLOT} once, where the name of the class goes")
    return [template.replace(SLOT, str(name)) for name in classes for template in templates]


def ensemble(prompts: Features, n_classes: int) -> Features:
    """One direction a class, ``(C, D)``: the mean over its prompts, ``(C · P, D)`` of length 1, at length 1 again."""
    mean = prompts.reshape(n_classes, -1, prompts.shape[1]).mean(axis=1)
    return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)


def evaluate_zero_shot(
    images: Features,
    classes: Features,
    names: Labels,
    test_y: Labels,
    *,
    dataset: str,
    subject: str,
    seed: int,
    split: str,
    n_train: int,
) -> Evaluation:
    """Accuracy and macro-F1 of the most similar class.

    Args:
        images: ``(m, D)`` embeddings of the test images.
        classes: ``(C, D)`` of the classes, see `ensemble`.
        names: ``(C,)`` as in ``test_y``.
        test_y: ``(m,)``.
        dataset, subject, seed, split: for the records.
        n_train: pairs that the encoder learnt from; labels were none.
    """
    predictions = names[(images @ classes.T).argmax(axis=1)]
    scored = evaluate_predictions(
        predictions,
        test_y,
        dataset=dataset,
        subject=subject,
        protocol=PROTOCOL,
        seed=seed,
        split=split,
        n_train=n_train,
    )
    return replace(scored, records=tuple(replace(record, n_labels=0) for record in scored.records))

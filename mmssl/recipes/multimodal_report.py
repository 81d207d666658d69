"""The pictures of an image–text report: a similarity matrix, searches that went well and badly, and the confusion."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from mmssl.core.methods.alignment import Towers
from mmssl.eval.report import Section
from mmssl.eval.retrieval import ranks
from mmssl.eval.zeroshot import ensemble
from mmssl.multimodal.encode import embed_images, embed_text
from mmssl.multimodal.pairs import PairSet
from mmssl.recipes.multimodal_scores import PairScores
from mmssl.vision.pictures import thumbnail

SHOWN = 8  # pairs of the matrix
SEARCHES = 4  # of either kind
FOUND = 4  # images of each
CLASSES = 20  # of the confusion
Floats = npt.NDArray[np.floating]


def sections(towers: Towers, scores: PairScores) -> list[Section]:
    """Of the test pairs, as these towers see them."""
    pairs, prepare = scores.parts[""], scores.data.preprocessor
    images = embed_images(towers, pairs.images, prepare)
    captions = embed_text(towers, pairs.captions[pairs.first].tolist(), scores.tokenizer)  # the first of each image
    parts = [matrix(pairs, images, captions), *searches(pairs, images, captions)]
    if scores.has_classes:
        classes = ensemble(embed_text(towers, scores.prompts, scores.tokenizer), len(scores.classes))
        said = (embed_images(towers, scores.test.images, prepare) @ classes.T).argmax(axis=1)
        parts.append(confusion(scores.test, said, [str(name) for name in scores.classes]))
    return parts


def matrix(pairs: PairSet, images: Floats, captions: Floats) -> Section:
    """Some test images by their captions."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(pairs))[:SHOWN])
    similarity = captions[chosen] @ images[chosen].T
    head = "".join(f"<th>{_picture(pairs, i)}</th>" for i in chosen)
    low, high = float(similarity.min()), float(similarity.max())
    rows = []
    for i, row in zip(chosen, similarity, strict=True):
        cells = "".join(_cell(f"{value:.2f}", (value - low) / max(high - low, 1e-9)) for value in row)
        rows.append(f"<tr><th>{escape(_first(pairs, i))}</th>{cells}</tr>")
    html = f'<table class="sheet"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    caption = "Cosine of test captions (rows) and images (columns): the diagonal should be the darkest of its row."
    return Section("Similarity of images and captions", html, caption)


def searches(pairs: PairSet, images: Floats, captions: Floats) -> list[Section]:
    """The captions whose image comes first with the largest margin, and those whose image comes last."""
    own = np.arange(len(pairs))
    rank = ranks(captions, images, own, own)
    similarity = captions @ images.T
    right = similarity[own, own]
    np.fill_diagonal(similarity, -np.inf)
    margin = right - similarity.max(axis=1, initial=-np.inf)
    np.fill_diagonal(similarity, right)
    best, worst = np.argsort(-margin, kind="stable")[:SEARCHES], np.argsort(-rank, kind="stable")[:SEARCHES]
    texts = (
        "Captions whose own image, on the left, is the furthest ahead of all others, and what was found.",
        "Captions whose own image, on the left, is found last: are these captions wrong, or ambiguous?",
    )
    return [
        Section(title, "".join(_search(pairs, i, rank[i], similarity[i]) for i in chosen.tolist()), text)
        for title, chosen, text in zip(("Best searches", "Worst searches"), (best, worst), texts, strict=True)
    ]


def confusion(pairs: PairSet, said: npt.NDArray[np.int64], classes: Sequence[str]) -> Section:
    """Of the most frequent classes, in shares of each row."""
    assert pairs.images.labels is not None
    truth = np.array([str(label) for label in pairs.images.labels])
    names, counts = np.unique(truth, return_counts=True)
    kept = sorted(names[np.argsort(-counts, kind="stable")[:CLASSES]].tolist())
    answered = np.asarray(classes)[said]
    head = "".join(f"<th>{escape(name)}</th>" for name in kept)
    rows = []
    for name in kept:
        of = answered[truth == name]
        shares = [float(np.mean(of == other)) for other in kept]
        cells = "".join(_cell(f"{100 * share:.0f}", share) for share in shares)
        rows.append(f"<tr><th>{escape(name)} ({len(of)})</th>{cells}</tr>")
    html = f'<table class="sheet"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    caption = "What the images of each class (rows; number of images) were taken for by the class's name alone, in %."
    return Section("Zero-shot confusion", html, caption)


def _search(pairs: PairSet, i: int, rank: int, similarity: Floats) -> str:
    found = np.argsort(-similarity, kind="stable")[:FOUND].tolist()
    shown = [(i, f"found at {rank + 1}"), *((j, f"cosine {similarity[j]:.2f}") for j in found)]
    figures = [
        f"<figure>{_picture(pairs, j)}<figcaption><b>{escape(_first(pairs, j))}</b><br>{text}</figcaption></figure>"
        for j, text in shown
    ]
    return f'<div class="neighbours">{"".join(figures)}</div>'


def _picture(pairs: PairSet, i: int) -> str:
    return thumbnail(pairs.images.fetch(np.array([i]))[0])


def _first(pairs: PairSet, i: int) -> str:
    return str(pairs.captions[pairs.first[i]])


def _cell(text: str, share: float) -> str:
    colour = f"color-mix(in srgb, var(--c0) {75 * share:.0f}%, transparent)"
    return f'<td style="background:{colour};text-align:center;padding:.3rem .5rem">{text}</td>'

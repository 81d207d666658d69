"""Search across two kinds of embeddings: is what belongs to a query among the first k that it finds (R@k)?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmssl.eval.evaluate import Evaluation
from mmssl.eval.features import Features, check_features
from mmssl.eval.interval import Hits
from mmssl.eval.measures import Measure, right
from mmssl.eval.records import Record

AT = (1, 5, 10)  # first answers that are looked at
DECIDES = 10
CHUNK = 2**23  # similarities at a time
TEXT_TO_IMAGE, IMAGE_TO_TEXT = "text-to-image/1", "image-to-text/1"  # protocol ids
RECALL = Measure(f"recall@{DECIDES}", f"text → image R@{DECIDES}", "class", right)
Ints = npt.NDArray[np.int64]


def ranks(queries: Features, candidates: Features, query_of: Ints, candidate_of: Ints) -> Ints:
    """How many wrong candidates come before the first right one, ``(Q,)``; 0 is a hit at 1.

    A candidate is right where it belongs to the same example. Wrong ones that are exactly as similar count as being
    before: an encoder that gives everything the same embedding finds nothing.

    Args:
        queries: ``(Q, D)``; similarity is the inner product.
        candidates: ``(N, D)``.
        query_of: ``(Q,)`` example that each query belongs to.
        candidate_of: ``(N,)`` likewise; every example of a query has a candidate.
    """
    out = np.empty(len(queries), dtype=np.int64)
    step = max(1, CHUNK // max(1, len(candidates)))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        similarity = queries[part] @ candidates.T  # (q, N)
        belongs = query_of[part, None] == candidate_of[None]
        best = np.where(belongs, similarity, -np.inf).max(axis=1, keepdims=True)
        out[part] = np.count_nonzero((similarity >= best) & ~belongs, axis=1)
    return out


def evaluate_retrieval(
    images: Features,
    captions: Features,
    owners: Ints,
    *,
    dataset: str,
    subject: str,
    seed: int,
    split: str,
    n_train: int,
    part: str = "",
) -> Evaluation:
    """Search images by captions and captions by images.

    A caption has one right image. An image has several right captions, of which one must be found. Recall is the mean
    over the captions of an image, then over images.

    Args:
        images: ``(n, D)`` embeddings of the test images.
        captions: ``(m, D)`` of their captions, all of them candidates.
        owners: ``(m,)`` image of each caption; each has one.
        dataset, subject, seed, split: for the records.
        n_train: pairs that the encoder learnt from.
        part: of the test data in words, where it is a second one; it stands in the protocol.

    Raises:
        ValueError: embeddings that are not finite, or an image without a caption.
    """
    check_features(images, f"{subject}: embeddings of test images")
    check_features(captions, f"{subject}: embeddings of test captions")
    count = np.bincount(owners, minlength=len(images))
    if len(owners) != len(captions) or len(count) > len(images) or not count.all():
        raise ValueError(
            f"{len(captions)} captions of {len(images)} images, but owners name {np.count_nonzero(count)} of them"
        )
    own = np.arange(len(images))
    by_text = ranks(captions, images, owners, own)
    by_image = ranks(images, captions, own, owners)
    found: dict[str, dict[int, Hits]] = {
        _named(TEXT_TO_IMAGE, part): {k: np.bincount(owners, weights=by_text < k) / count for k in AT},
        _named(IMAGE_TO_TEXT, part): {k: by_image < k for k in AT},
    }
    records = tuple(
        Record(dataset, subject, protocol, f"recall@{k}", 0, seed, split, float(hits.mean()), n_train, len(images))
        for protocol, at in found.items()
        for k, hits in at.items()
    )
    hits = {} if part else {TEXT_TO_IMAGE: found[TEXT_TO_IMAGE][DECIDES]}
    return Evaluation(dataset, subject, seed, records, hits, measure=RECALL)


def _named(protocol: str, part: str) -> str:
    """``text-to-image(unseen characters)/1``."""
    name, _, version = protocol.partition("/")
    return f"{name}({part})/{version}" if part else protocol

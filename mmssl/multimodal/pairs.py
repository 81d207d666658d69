"""Images and what is said of them: any number of captions an image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mmssl.vision.decode import EncodedImages, Undecodable
from mmssl.vision.files import Blobs
from mmssl.vision.frame import Frame, Header
from mmssl.vision.images import ImageSet, Index, Values, as_objects
from mmssl.vision.load import Options, image_set
from mmssl.vision.paths import Columns

Texts = npt.NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class PairSet:
    """Images with their captions.

    Args:
        images: n images; their labels are the names of classes.
        captions: ``(m,)`` object array of text, those of an image one after the other.
        owners: ``(m,)`` position of the image of each caption, ascending; every image has one.
    """

    images: ImageSet
    captions: Texts
    owners: Index

    @classmethod
    def of(cls, images: ImageSet, captions: Sequence[Sequence[str]]) -> PairSet:
        """From the captions of each image."""
        owners = np.repeat(np.arange(len(images)), [len(own) for own in captions])
        return cls(images, as_objects([text for own in captions for text in own]), owners)

    def __post_init__(self) -> None:
        count = np.bincount(self.owners, minlength=len(self.images))
        if len(self.captions) != len(self.owners) or len(count) != len(self.images) or not count.all():
            raise ValueError(f"{len(self.captions)} captions do not belong to {len(self.images)} images, one at least")

    def __len__(self) -> int:
        """Images."""
        return len(self.images)

    @cached_property
    def first(self) -> Index:
        """``(n,)`` position of the first caption of each image."""
        return np.searchsorted(self.owners, np.arange(len(self.images)))

    @cached_property
    def texts(self) -> Index:
        """``(m,)`` number of each caption's text: captions that say the same have the same."""
        return np.unique(self.captions.astype(str), return_inverse=True)[1].astype(np.int64)

    def subset(self, index: Index) -> PairSet:
        """The images at ``index``, in this order, with their captions."""
        ends = np.append(self.first, len(self.captions))
        kept = [np.arange(ends[i], ends[i + 1]) for i in index]
        owners = np.repeat(np.arange(len(index)), [len(own) for own in kept])
        chosen = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
        return PairSet(self.images.subset(index), self.captions[chosen], owners)


@dataclass(frozen=True, eq=False)
class Listing:
    """What a reader found, before an image is decoded.

    Args:
        blobs: n encoded images.
        names: of each, all different.
        captions: of each; white space around them is taken off, and empty ones are dropped.
        places: where each stands, such as ``"row 17"``, for messages.
        labels: the name of its class, None where there is none; None altogether without classes.
        notes: what the reader had to decide, in sentences.
    """

    blobs: Blobs
    names: Sequence[str]
    captions: Sequence[Sequence[object]]
    places: Sequence[str]
    labels: Sequence[object] | None = None
    notes: tuple[str, ...] = ()


def pair_set(listing: Listing, options: Options) -> PairSet:
    """Decode the images of a listing; what has no caption or cannot be decoded is left out, with a warning.

    Raises:
        ValueError: more than ``options.max_bad`` of the images have no caption, or cannot be decoded; the rows are
            named.
    """
    captions = [_clean(own, place) for own, place in zip(listing.captions, listing.places, strict=True)]
    notes = _refuse_empty([i for i, own in enumerate(captions) if not own], listing, options.max_bad)
    position = {name: i for i, name in enumerate(listing.names)}
    items = PlacedImages(EncodedImages(listing.blobs), listing.places)
    columns = Columns(
        labels=None if listing.labels is None else as_objects(list(listing.labels)),
        notes=[*listing.notes, *notes],
    )
    images = image_set(items, as_objects(list(listing.names)), columns, options)
    with_caption = np.array([bool(captions[position[name]]) for name in images.names])
    images = images.subset(np.flatnonzero(with_caption))
    return PairSet.of(images, [captions[position[name]] for name in images.names])


@dataclass(frozen=True, eq=False)
class PlacedImages:
    """Encoded images; what is wrong with one is said together with where it stands."""

    images: EncodedImages
    places: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)

    def header(self, i: int) -> Header:
        try:
            return self.images.header(i)
        except Undecodable as error:
            raise self._placed(i, error) from error

    def decode(self, i: int, frame: Frame) -> tuple[Header, Values]:
        try:
            return self.images.decode(i, frame)
        except Undecodable as error:
            raise self._placed(i, error) from error

    def _placed(self, i: int, error: Undecodable) -> Undecodable:
        missing = isinstance(error.__cause__, FileNotFoundError)
        return Undecodable(f"{self.places[i]}: {'there is no such file' if missing else error}")


def describe_captions(pairs: PairSet) -> str:
    """How many there are, with an example, so that a column that was misread shows at once."""
    lengths = [len(str(text).split()) for text in pairs.captions]
    different = len(np.unique(pairs.texts))
    example = pairs.captions[pairs.first[len(pairs) // 2]]
    return (
        f"captions: {len(pairs.captions):,} of {len(pairs):,} images, {different:,} different, "
        f"{min(lengths)} to {max(lengths)} words; one is {example!r}"
    )


def _clean(own: Sequence[object], place: str) -> list[str]:
    """Without white space that says nothing, without empty ones, each once."""
    for text in own:
        if not isinstance(text, str) and text is not None and text == text:  # NaN is a missing text
            raise ValueError(
                f"{place}: the caption {text!r} is a {type(text).__name__}, not text; is data.caption the right column?"
            )
    texts = [" ".join(text.split()) for text in own if isinstance(text, str)]
    return list(dict.fromkeys(text for text in texts if text))


def _refuse_empty(empty: list[int], listing: Listing, limit: float) -> list[str]:
    if not empty:
        return []
    total = len(listing.names)
    listed = ", ".join(f"{listing.places[i]} ({listing.names[i]})" for i in empty[:5])
    listed += f" and {len(empty) - 5:,} more" if len(empty) > 5 else ""
    if len(empty) > limit * total:
        raise ValueError(
            f"{len(empty):,} of {total:,} images have an empty caption or none, more than data.max_bad={limit:g} "
            f"allows: {listed}. Write captions for them, name the right column with data.caption, or raise data.max_bad"
        )
    note = f"{len(empty):,} of {total:,} images have an empty caption or none and are left out: {listed}"
    warnings.warn(note, UserWarning, stacklevel=4)
    return [note]

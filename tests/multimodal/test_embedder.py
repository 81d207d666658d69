"""What leaves a run: both towers and their tokenizer, read again to the same numbers; and search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mmssl
from mmssl.__main__ import main as cli
from mmssl.core.methods.alignment import Towers
from mmssl.multimodal.embedder import PairEmbedder
from mmssl.multimodal.search import gallery, search
from mmssl.text.encoder import TextTransformer
from mmssl.text.tokenizer import Tokenizer
from mmssl.train.export import save_embedder
from mmssl.vision.encoder import build_encoder
from mmssl.vision.preprocess import ImagePreprocessor
from tests.multimodal.samples import drawn, pairs, things
from tests.vision.samples import encoded, write


@pytest.fixture
def embedder() -> PairEmbedder:
    data = pairs(18)
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(data.captions.tolist())
    image = build_encoder("resnet", layers=[1, 1, 1, 1], channels=[4, 4, 8, 8], size=16)
    text = TextTransformer(tokenizer.vocabulary, tokenizer.context, dim=16, depth=1, heads=2)
    towers = Towers({"image": image, "text": text}, dim=8).eval()
    return PairEmbedder(towers, ImagePreprocessor().fit(data.images), tokenizer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, thing in enumerate(things(9)):
        write(tmp_path / "photos" / f"{i}.png", encoded(drawn(*thing)))
    return tmp_path / "photos"


def test_a_run_embeds_images_and_texts_into_one_space_as_before_it_was_saved(
    embedder: PairEmbedder, tmp_path: Path, folder: Path
) -> None:
    save_embedder(tmp_path, embedder)
    loaded = mmssl.load(tmp_path)
    assert isinstance(loaded, PairEmbedder)
    for one, other in (
        (embedder.embed(folder), loaded.embed(folder)),
        (embedder.embed_text(["a red bar", "blue"]), loaded.embed_text(["a red bar", "blue"])),
    ):
        np.testing.assert_array_equal(one.to_numpy(), other.to_numpy())
        np.testing.assert_allclose(np.linalg.norm(other.to_numpy(), axis=1), 1, rtol=1e-5)
        assert other.shape[1] == loaded.dim == 8
    assert loaded.embed(folder).index[0] == "0.png"
    assert loaded.embed_text(["blue"]).index.tolist() == ["blue"]


def test_one_text_that_is_no_list_is_an_error(embedder: PairEmbedder) -> None:
    with pytest.raises(ValueError, match=r"takes a list of texts, got one: embed_text\(\['a cat'\]\)"):
        embedder.embed_text("a cat")


def test_a_tokenizer_of_another_run_is_refused(embedder: PairEmbedder, tmp_path: Path) -> None:
    other = Tokenizer.train(["one more caption of other things"] * 9, context=9)
    with pytest.raises(ValueError, match="it is the tokenizer of another run"):
        replace(embedder, tokenizer=other)
    same_size = Tokenizer.train([text[::-1] for text in pairs(18).captions], context=embedder.tokenizer.context)
    save_embedder(tmp_path, embedder)
    description = json.loads((tmp_path / "encoder.json").read_text())
    description["tokenizer"] |= same_size.state()  # somebody copied it from elsewhere
    (tmp_path / "encoder.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"the text tower was trained with [0-9a-f]{12}: .* of another run"):
        mmssl.load(tmp_path)


def test_search_gives_the_most_similar_images_best_first(embedder: PairEmbedder, folder: Path) -> None:
    images = embedder.read(folder)
    found = search(embedder, "a red bar", images, k=4)
    z = embedder.embed(folder).to_numpy() @ embedder.embed_text(["a red bar"]).to_numpy()[0]
    assert [hit.row for hit in found] == np.argsort(-z, kind="stable")[:4].tolist()
    assert [hit.similarity for hit in found] == pytest.approx(sorted(z)[:-5:-1])
    assert gallery(found, images).count("<img") == 4


def test_damaged_images_are_not_found_and_named(embedder: PairEmbedder, folder: Path) -> None:
    write(folder / "broken.png", b"no image")
    with pytest.warns(UserWarning, match=r"1 of 10 images cannot be decoded and are left out: broken\.png"):
        images = embedder.read(folder)
    assert len(search(embedder, "a red bar", images, k=20)) == 9


@pytest.mark.parametrize(
    ("query", "k", "message"), [("  ", 3, "the query is empty"), ("a", 0, "-k must be at least 1")]
)
def test_a_search_for_nothing_is_refused(
    embedder: PairEmbedder, folder: Path, query: str, k: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        search(embedder, query, embedder.read(folder), k=k)


@pytest.mark.parametrize("ending", ["html", "png"])
def test_the_shell_prints_the_hits_and_writes_a_picture(
    embedder: PairEmbedder, tmp_path: Path, folder: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_embedder(tmp_path, embedder)
    out = tmp_path / f"found.{ending}"
    assert cli(["search", str(tmp_path), "a <red> bar", str(folder), "-k", "7", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Images like “a <red> bar” among 9" in printed
    assert printed.count(".png") >= 7
    if ending == "html":
        page = out.read_text()
        assert page.count("<img") == 7
        assert "a &lt;red&gt; bar" in page
    else:
        with Image.open(out) as picture:
            assert picture.size == (5 * 136 + 8, 2 * 136 + 8)


def test_the_shell_says_what_is_wrong(
    embedder: PairEmbedder, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_embedder(tmp_path, embedder)
    assert cli(["search", str(tmp_path), "a", str(folder), "--out", str(tmp_path / "a.xyz")]) == 1
    assert "cannot be written as a picture" in capsys.readouterr().err
    assert cli(["search", str(tmp_path), "a", str(tmp_path / "none")]) == 1
    assert "does not exist" in capsys.readouterr().err

"""What images of every mode, size and orientation become; Pillow and torchvision are the references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

from mmssl.vision.data import read_images
from mmssl.vision.frame import Frame, Header, fit_array, fit_photo, plan
from mmssl.vision.images import ImageSet
from tests.vision.samples import encoded, picture, smooth, write


def only(images: ImageSet) -> torch.Tensor:
    assert len(images) == 1
    return images.fetch(np.array([0]))[0]


@pytest.mark.parametrize(("height", "width"), [(40, 60), (61, 40), (20, 33), (9, 7)])
def test_a_photograph_is_resized_and_cropped_as_torchvision_does_it(height: int, width: int) -> None:
    photo = Image.fromarray(smooth(height=height, width=width))
    reference = v2.Compose([v2.Resize(16, antialias=True), v2.CenterCrop(16)])(photo)
    ours = fit_photo(photo, Frame(3, 16))
    theirs = np.asarray(reference).transpose(2, 0, 1).astype(float)
    assert np.abs(ours - theirs).mean() < 2  # they round the size before the crop, and the crop to whole pixels


def test_stretching_is_pillows_resize_and_padding_keeps_the_sides_in_proportion() -> None:
    photo = Image.fromarray(smooth(height=20, width=40))
    stretched = fit_photo(photo, Frame(3, 16, fit="stretch"))
    np.testing.assert_array_equal(stretched, np.asarray(photo.resize((16, 16), 2)).transpose(2, 0, 1))
    padded = fit_photo(photo, Frame(3, 16, fit="pad"))
    assert not padded[:, :4].any()
    assert not padded[:, 12:].any()
    np.testing.assert_array_equal(padded[:, 4:12], np.asarray(photo.resize((16, 8), 2)).transpose(2, 0, 1))


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("size", [(30, 40), (40, 30), (9, 21)])
def test_arrays_are_fitted_as_photographs_are(fit: str, size: tuple[int, int]) -> None:
    values = smooth(height=size[0], width=size[1])
    frame = Frame(3, 16, fit=fit)
    array = fit_array(values.transpose(2, 0, 1), frame).astype(float)
    photo = fit_photo(Image.fromarray(values), frame).astype(float)
    assert np.abs(array - photo).mean() < 3
    assert array.shape == (3, 16, 16)


def test_an_image_of_the_wanted_size_is_left_alone() -> None:
    values = picture(height=16, width=16)
    np.testing.assert_array_equal(fit_photo(Image.fromarray(values), Frame(3, 16)), values.transpose(2, 0, 1))
    words = np.random.default_rng(0).integers(0, 65536, (5, 16, 16), dtype=np.uint16)
    np.testing.assert_array_equal(fit_array(words, Frame(5, 16, "uint16")), words)


def test_a_large_jpeg_is_decoded_at_a_fraction_and_stays_close() -> None:
    data = encoded(smooth(height=400, width=600), "JPEG", quality=95)
    import io

    ours = fit_photo(Image.open(io.BytesIO(data)), Frame(3, 32)).astype(float)
    whole = ImageOps.fit(Image.open(io.BytesIO(data)), (32, 32), Image.Resampling.BILINEAR)
    assert np.abs(ours - np.asarray(whole).transpose(2, 0, 1)).mean() < 1.5
    drafted = Image.open(io.BytesIO(data))
    fit_photo(drafted, Frame(3, 32))
    assert drafted.size == (150, 100)  # a quarter: still three times what is wanted


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_images_stand_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    upright = smooth(3, height=16, width=16)
    inverse = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180}
    inverse |= {2: Image.Transpose.FLIP_LEFT_RIGHT, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    inverse |= {5: Image.Transpose.TRANSPOSE, 7: Image.Transpose.TRANSVERSE}
    held = Image.fromarray(upright)
    held = held.transpose(inverse[orientation]) if orientation > 1 else held
    if kind == "TIFF":
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, np.asarray(held), photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        quality = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
        path = write(tmp_path / f"a.{kind.lower()}", encoded(held, kind, exif=exif, **quality))
    values = only(read_images(path)).permute(1, 2, 0).numpy().astype(float)
    assert np.abs(values - upright).mean() < (3 if kind == "JPEG" else 1e-9)


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("I;16", 1), ("P", 3), ("RGB", 3), ("RGBA", 3), ("CMYK", 3), ("YCbCr", 3)],
)
def test_every_mode_becomes_grey_or_rgb_and_either_can_be_had(tmp_path: Path, mode: str, channels: int) -> None:
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    photo = Image.fromarray(smooth())
    if mode == "I;16":
        photo = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    else:
        photo = photo.convert(mode)
    path = write(tmp_path / f"a.{kind.lower()}", encoded(photo, kind))
    images = read_images(path)
    assert images.channels == channels
    assert images.dtype == ("uint16" if mode == "I;16" else "uint8")
    if mode != "I;16":
        grey, colour = only(read_images(path, channels=1)), only(read_images(path, channels=3))
        reference = np.asarray(Image.open(path).convert("RGB").convert("L")).astype(float)
        assert np.abs(grey[0].numpy() - reference).mean() < 3
        assert colour.shape == (3, 12, 12)


def test_what_is_transparent_is_white_whatever_colour_lies_below(tmp_path: Path) -> None:
    values = np.zeros((4, 4, 4), np.uint8)
    values[..., 0], values[:, :2, 3] = 200, 255  # red on the left, nothing on the right
    path = write(tmp_path / "a.png", encoded(Image.fromarray(values)))
    image = only(read_images(path))
    assert image[:, 0, 0].tolist() == [200, 0, 0]
    assert image[:, 0, 3].tolist() == [255, 255, 255]
    kept = only(read_images(path, channels=4))
    assert kept[:, 0, 3].tolist() == [200, 0, 0, 0]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8).repeat(2, axis=0))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    write(tmp_path / "b.png", encoded(palette, transparency=1))
    assert only(read_images(tmp_path / "b.png"))[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255]]


def test_differing_sizes_get_a_common_one_that_is_said() -> None:
    headers = [Header(3, "uint8", 70, 90), Header(3, "uint8", 75, 200), Header(3, "uint8", 20, 30)]
    frame, notes = plan(headers, ["a", "b", "c"], size=None, channels=None, fit="crop")
    assert frame == Frame(3, 64)
    assert "sizes were 30 x 20 to 200 x 75: resized to 64 x 64" in notes[0]
    assert "data.size" in notes[0]
    assert notes[1] == "1 images are smaller than that and are scaled up"


@pytest.mark.parametrize(("own", "size"), [(28, 28), (256, 256), (257, 224), (3000, 224)])
def test_a_common_size_is_kept_up_to_256(own: int, size: int) -> None:
    frame, notes = plan([Header(1, "uint8", own, own)] * 2, ["a", "b"], size=None, channels=None, fit="crop")
    assert frame.size == size
    assert bool(notes) == (own > 256)


def test_grey_and_colour_photographs_are_taken_as_rgb_and_that_is_said() -> None:
    headers = [Header(1, "uint8", 8, 8), Header(3, "uint8", 8, 8), Header(3, "uint8", 8, 8)]
    frame, notes = plan(headers, ["a", "b", "c"], size=None, channels=None, fit="crop")
    assert frame.channels == 3
    assert notes == ["1 grey and 2 colour images: all are taken as RGB (data.channels=1 takes grey)"]
    assert plan(headers, ["a", "b", "c"], size=None, channels=1, fit="crop")[0].channels == 1


def test_eight_and_sixteen_bits_meet_at_eight(tmp_path: Path) -> None:
    grey = np.asarray(Image.fromarray(smooth()).convert("L"))
    write(tmp_path / "a.png", encoded(grey))
    write(tmp_path / "b.png", encoded(Image.fromarray(grey.astype(np.uint16) * 257)))
    images = read_images(tmp_path)
    one, other = images.fetch(np.arange(2))
    assert torch.equal(one, other)
    assert any("16 bits" in note for note in images.notes)


def test_a_palette_tiff_gets_its_colours(tmp_path: Path) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 7] = 65535, 257 * 128, 0
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4), 7, np.uint8), photometric="palette", colormap=colours)
    assert only(read_images(tmp_path / "a.tif"))[:, 0, 0].tolist() == [255, 128, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "data.size must be at least 1 pixel, got 0"),
        ({"fit": "zoom"}, "data.fit must be crop, stretch, pad, got 'zoom'"),
        ({"channels": 2}, "cannot have 2 channels"),
    ],
)
def test_an_impossible_frame_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan([Header(3, "uint8", 8, 8)], ["a"], **{"size": None, "channels": None, "fit": "crop", **options})

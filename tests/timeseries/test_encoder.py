"""The dilated encoder against plain convolutions, and what it does with missing values and padding."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.timeseries import encoder as encoder_module
from mmssl.timeseries.encoder import DilatedConvEncoder, dropout, max_over_time, present


def built(channels: int = 2, *, missing: str = "drop", depth: int = 3, rate: float = 0.1) -> DilatedConvEncoder:
    torch.manual_seed(0)
    return DilatedConvEncoder(channels, dim=10, hidden=6, depth=depth, dropout=rate, missing=missing)  # type: ignore[arg-type]


@pytest.fixture(params=["products", "convolutions"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder as it is on a CPU, and as it is elsewhere."""
    monkeypatch.setattr(encoder_module, "suits", lambda x: request.param == "products")


class Plain(nn.Module):
    """The paper's encoder for series without padding: `(B, T, C)` and the timestamps that are shown, nn.Conv1d only."""

    def __init__(self, channels: int, hidden: int, dim: int, depth: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, hidden)
        self.convs = nn.ModuleList()
        for i in range(depth + 1):
            out = dim if i == depth else hidden
            block = nn.ModuleDict({
                "conv1": nn.Conv1d(hidden, out, 3, padding=2**i, dilation=2**i),
                "conv2": nn.Conv1d(out, out, 3, padding=2**i, dilation=2**i),
            })  # fmt: skip
            if out != hidden or i == depth:
                block["projector"] = nn.Conv1d(hidden, out, 1)
            self.convs.append(block)

    def copy(self, encoder: DilatedConvEncoder) -> Plain:
        theirs = [p.detach() for p in (encoder.input.weight, encoder.input.bias)]
        for block in encoder.conv_blocks():
            theirs += [block.conv1.weight.detach()[:, :, 0], block.conv1.bias.detach()]  # type: ignore[union-attr]
            theirs += [block.conv2.weight.detach()[:, :, 0], block.conv2.bias.detach()]  # type: ignore[union-attr]
            if block.projector is not None:
                theirs += [block.projector.weight.detach()[:, :, None], block.projector.bias.detach()]
        for own, other in zip(self.parameters(), theirs, strict=True):
            own.data.copy_(other)
        return self

    def forward(self, x: Tensor, shown: Tensor) -> Tensor:
        h = self.fc(x)
        h[~shown] = 0
        h = h.transpose(1, 2)
        for block in self.convs:
            assert isinstance(block, nn.ModuleDict)
            residual = block["projector"](h) if "projector" in block else h
            h = block["conv2"](F.gelu(block["conv1"](F.gelu(h)))) + residual
        return h.transpose(1, 2)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("steps", [1, 2, 5, 8, 40])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("depth", [0, 3])
def test_it_is_a_stack_of_plain_convolutions(steps: int, masked: bool, depth: int) -> None:
    encoder = built(depth=depth).eval()
    plain = Plain(2, 6, 10, depth).copy(encoder)
    x = torch.randn(3, steps, 2)
    keep = torch.rand(3, steps) > 0.5
    shown = keep if masked else torch.ones(3, steps, dtype=torch.bool)
    with torch.no_grad():
        expected = plain(x, shown)
        torch.testing.assert_close(encoder.timestamps(x, keep if masked else None), expected, rtol=1e-5, atol=1e-6)
        if not masked:
            torch.testing.assert_close(encoder(x), expected.amax(dim=1), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("both_ways")
def test_gradients_are_those_of_plain_convolutions() -> None:
    encoder = built().eval()
    plain = Plain(2, 6, 10, 3).copy(encoder)
    x, keep, pull = torch.randn(3, 7, 2), torch.rand(3, 7) > 0.3, torch.randn(3, 7, 10)
    (encoder.timestamps(x, keep) * pull).sum().backward()
    (plain(x, keep) * pull).sum().backward()
    ours = list(encoder.parameters())
    # the last block's projector follows its convolutions in both, so the order of parameters agrees
    for own, other in zip(ours, plain.parameters(), strict=True):
        assert own.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(own.grad.reshape(other.grad.shape), other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("missing", "per_channel"), [("drop", 64), ("indicator", 128)])
@pytest.mark.parametrize("channels", [1, 6])
def test_the_paper_s_sizes_have_the_paper_s_number_of_parameters(missing: str, per_channel: int, channels: int) -> None:
    encoder = DilatedConvEncoder(channels, missing=missing)  # type: ignore[arg-type]
    n = sum(p.numel() for p in encoder.parameters())
    blocks = 10 * 2 * (64 * 64 * 3 + 64) + (64 * 320 * 3 + 320) + (320 * 320 * 3 + 320) + (64 * 320 + 320)
    assert blocks == 637_120
    assert n == blocks + channels * per_channel + 64
    assert encoder.reach == 4094


def test_a_representation_sees_as_far_as_reach_and_no_further() -> None:
    encoder = built(depth=2).eval()  # dilations 1, 2, 4: two convolutions each
    assert encoder.reach == 14
    x = torch.randn(1, 60, 2)
    with torch.no_grad():
        z = encoder.timestamps(x)
        x[0, 30] += 10
        moved = (encoder.timestamps(x) - z).abs().amax(dim=-1)[0] > 1e-6
    assert moved.nonzero().flatten().tolist() == list(range(30 - 14, 30 + 15))


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("missing", ["drop", "indicator"])
@pytest.mark.parametrize(("before", "after"), [(0, 9), (5, 0), (3, 4), (20, 20)])
def test_padding_at_either_end_changes_nothing(missing: str, before: int, after: int) -> None:
    encoder = built(missing=missing).eval()
    x = torch.randn(2, 12, 2)
    x[0, 4, 0] = math.nan
    padded = F.pad(x, (0, 0, before, after), value=math.nan)
    with torch.no_grad():
        z = encoder.timestamps(padded)
        torch.testing.assert_close(z[:, before : before + 12], encoder.timestamps(x), rtol=1e-5, atol=1e-6)
        assert (z[:, :before] == 0).all()
        assert (z[:, before + 12 :] == 0).all()
        torch.testing.assert_close(encoder(padded), encoder(x), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("both_ways")
def test_series_in_one_batch_do_not_touch_each_other_whatever_their_padding() -> None:
    encoder = built().eval()
    rows = [torch.randn(t, 2) for t in (4, 11, 7)]
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=math.nan)
    with torch.no_grad():
        z = encoder(batch)
        for i, row in enumerate(rows):
            torch.testing.assert_close(z[i], encoder(row[None])[0], rtol=1e-5, atol=1e-6)


def test_a_missing_value_hides_its_whole_timestamp_as_in_the_paper() -> None:
    encoder = built().eval()
    x = torch.randn(2, 15, 2)
    keep = torch.ones(2, 15, dtype=torch.bool)
    keep[0, 6], keep[1, 3] = False, False
    holes = x.clone()
    holes[0, 6, 1], holes[1, 3] = math.nan, math.nan
    with torch.no_grad():
        torch.testing.assert_close(encoder.timestamps(holes), encoder.timestamps(x, keep))


def test_indicators_let_the_other_channels_be_seen() -> None:
    encoder = built(missing="indicator").eval()
    x = torch.randn(1, 15, 2)
    x[0, 6, 1] = math.nan
    other = x.clone()
    other[0, 6, 0] += 1
    zero = x.nan_to_num(0.0)
    hidden = x.clone()
    hidden[0, 6] = math.nan
    keep = torch.ones(1, 15, dtype=torch.bool)
    keep[0, 6] = False
    with torch.no_grad():
        z = encoder.timestamps(x)
        assert not torch.allclose(z, encoder.timestamps(other))  # the channel beside the gap counts
        assert not torch.allclose(z, encoder.timestamps(zero))  # missing is not zero
        torch.testing.assert_close(encoder.timestamps(hidden), encoder.timestamps(zero, keep))  # nothing measured


def test_a_value_behind_a_mask_is_not_seen() -> None:
    encoder = built().eval()
    x = torch.randn(2, 9, 2)
    keep = torch.rand(2, 9) > 0.5
    with torch.no_grad():
        z = encoder.timestamps(x, keep)
        x[~keep] = 1e6
        assert torch.equal(encoder.timestamps(x, keep), z)


def test_a_series_without_any_value_is_zero_and_not_nan() -> None:
    encoder = built().eval()
    x = torch.randn(2, 9, 2)
    x[1] = math.nan
    z = encoder(x)
    assert (z[1] == 0).all()
    torch.testing.assert_close(z[:1], encoder(x[:1]))


@pytest.mark.parametrize("missing", ["drop", "indicator"])
def test_the_input_is_left_untouched(missing: str) -> None:
    encoder = built(missing=missing)
    x = torch.randn(3, 9, 2)
    x[0, 3], x[1, 7:] = math.nan, math.nan
    before = x.clone()
    encoder(x).sum().backward()
    assert torch.equal(x.isnan(), before.isnan())
    assert torch.equal(x.nan_to_num(), before.nan_to_num())


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("steps", [3, 4, 9, 40])
@pytest.mark.parametrize("padded", ["neither", "second", "both"])
def test_shared_timestamps_are_those_of_each_segment_cut_to_its_span(steps: int, padded: str) -> None:
    encoder = built(depth=4).eval()
    x = [torch.randn(3, steps + 2, 2), torch.randn(3, steps, 2)]
    if padded != "neither":
        x[1][1, 1:] = math.nan
    if padded == "both":
        x[0][0, -1:] = math.nan
    keep = [torch.rand(3, steps + 2) > 0.5, torch.rand(3, steps) > 0.5]
    span = [slice(3, steps + 2), slice(0, steps - 1)]
    with torch.no_grad():
        z = encoder.shared_timestamps(x, keep, span)
        assert z.shape == (3, 2, steps - 1, 10)
        for s in range(2):
            torch.testing.assert_close(z[:, s], encoder.timestamps(x[s], keep[s])[:, span[s]], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("both_ways")
def test_shared_timestamps_leave_a_gradient_in_every_parameter() -> None:
    encoder = built(depth=5)
    x, keep = torch.randn(2, 9, 2), torch.ones(2, 9, dtype=torch.bool)
    encoder.shared_timestamps([x, x], [keep, keep], [slice(0, 5), slice(2, 7)]).square().sum().backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


@pytest.mark.parametrize("shape", [(2, 9), (2, 9, 3)])
def test_series_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected series \(B, T, 2\), got \(2, 9"):
        built()(torch.zeros(shape))


def test_an_unknown_way_with_missing_values_is_refused() -> None:
    with pytest.raises(ValueError, match="missing must be 'drop' or 'indicator', got 'fill'"):
        built(missing="fill")


# ----------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_has_its_rate_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    out = dropout(torch.ones(200_003), rate)
    kept = out[out != 0]
    assert len(kept) / len(out) == pytest.approx(1 - rate, abs=0.005)
    assert float(out.mean()) == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 9)])
def test_dropout_takes_odd_sizes_and_repeats_by_seed(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    torch.manual_seed(1)
    a = dropout(x, 0.3)
    b = dropout(x, 0.3)
    torch.manual_seed(1)
    assert a.shape == x.shape
    assert torch.equal(dropout(x, 0.3), a)
    if x.numel() > 20:
        assert not torch.equal(a, b)


def test_dropout_drops_no_position_more_often_than_another() -> None:
    torch.manual_seed(0)
    share = torch.stack([dropout(torch.ones(13), 0.4) == 0 for _ in range(2000)]).float().mean(dim=0)
    assert (share - 0.4).abs().max() < 0.06


def test_dropout_is_active_in_training_only() -> None:
    encoder = built(rate=0.5)
    x = torch.randn(2, 30, 2)
    with torch.no_grad():
        assert float((encoder.train().timestamps(x) == 0).float().mean()) == pytest.approx(0.5, abs=0.1)
        assert (encoder.eval().timestamps(x) != 0).all()


def test_the_gradient_of_dropout_passes_where_it_kept() -> None:
    x = torch.randn(1001, requires_grad=True)
    out = dropout(x, 0.25)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.where(out == 0, 0.0, 1 / 0.75))


# ------------------------------------------------------------------------------------------- padding, maximum


def test_present_is_everything_from_the_first_to_the_last_value() -> None:
    x = torch.full((4, 6, 2), math.nan)
    x[0, 1, 0] = x[0, 3, 1] = 1.0
    x[1] = 1.0
    x[2, 5] = 1.0
    valid = present(x)
    assert valid is not None
    assert valid.tolist() == [
        [False, True, True, True, False, False],
        [True] * 6,
        [False] * 5 + [True],
        [False] * 6,
    ]
    holed = torch.zeros(2, 6, 2)
    holed[0, 2:4] = math.nan
    assert present(holed) is None


def test_the_maximum_over_time_leaves_padding_out() -> None:
    z = -torch.rand(2, 4, 3) - 1
    z[0, 2:] = 0.0
    valid = torch.tensor([[True, True, False, False], [True] * 4])
    torch.testing.assert_close(max_over_time(z, valid), torch.stack([z[0, :2].amax(0), z[1].amax(0)]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("missing", ["drop", "indicator"])
def test_representations_are_the_same_on_a_gpu(missing: str) -> None:
    encoder = built(missing=missing).eval()
    x = torch.randn(3, 40, 2)
    x[0, 30:], x[1, 5], x[2, 7, 1] = math.nan, math.nan, math.nan
    with torch.no_grad():
        z = encoder.timestamps(x)
        torch.testing.assert_close(encoder.cuda().timestamps(x.cuda()).cpu(), z, rtol=1e-3, atol=1e-4)

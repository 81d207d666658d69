"""The text transformer: padding, order, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmssl.text.encoder import TextTransformer


def transformer(**options: Any) -> TextTransformer:
    torch.manual_seed(0)
    encoder = TextTransformer(40, 12, dim=16, depth=2, heads=4, **options)
    with torch.no_grad():  # norms and biases away from one and zero, and positions that count
        for p in encoder.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return encoder


def texts() -> Tensor:
    tokens = torch.randint(3, 40, (4, 9), generator=torch.Generator().manual_seed(1))
    tokens[0, 3:], tokens[1, 7:] = 0, 0
    return tokens


def by_torch(encoder: TextTransformer, row: Tensor) -> Tensor:
    """One text without padding, through torch's own transformer layers."""
    h = encoder.tokens.weight[row][None] + encoder.positions[: len(row)]
    for block in encoder.blocks:
        layer = nn.TransformerEncoderLayer(
            16, 4, 64, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        own = block.state_dict()
        names = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj.": "proj.", "linear1.": "fc1.", "linear2.": "fc2."}
        names |= {"norm1.": "norm1.", "norm2.": "norm2."}
        layer.load_state_dict({a + kind: own[b + kind] for a, b in names.items() for kind in ("weight", "bias")})
        h = layer(h)
    return encoder.norm(h).mean(dim=1)[0]


def test_a_text_is_the_mean_over_its_tokens_after_torchs_own_layers() -> None:
    encoder, tokens = transformer(), texts()
    out = encoder(tokens)
    assert out.shape == (4, 16)
    for i, length in enumerate((3, 7, 9, 9)):
        torch.testing.assert_close(out[i], by_torch(encoder, tokens[i, :length]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("more", [1, 3])
def test_padding_changes_no_output_and_no_gradient(more: int) -> None:
    encoder, tokens = transformer(), texts()
    padded = torch.cat([tokens, torch.zeros(4, more, dtype=torch.int64)], dim=1)
    results = []
    for x in (tokens, padded):
        encoder.zero_grad()
        out = encoder(x)
        out.square().sum().backward()
        results.append((out.detach(), encoder.tokens.weight.grad, encoder.positions.grad))
    for found, expected in zip(results[1], results[0], strict=True):
        assert found is not None
        assert expected is not None
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (encoder.tokens.weight.grad[0] == 0).all()  # type: ignore[index]


def test_the_columns_that_are_left_out_on_a_cpu_are_none_that_count() -> None:
    encoder, tokens = transformer(), texts()
    tokens[:, 4] = 0  # in the middle of all
    tokens[:, 8] = 0
    lengths: list[int] = []
    encoder.blocks[0].register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
    whole = encoder(tokens)
    assert lengths == [8]
    torch.testing.assert_close(encoder(tokens[2:3])[0], whole[2], rtol=1e-5, atol=1e-6)


def test_a_word_that_is_replaced_by_padding_is_not_seen() -> None:
    encoder = transformer()
    a, b = texts()[2:3], texts()[2:3].clone()
    b[0, 4] = (a[0, 4] - 2) % 37 + 3  # another word
    assert not torch.allclose(encoder(a), encoder(b))
    a[0, 4] = b[0, 4] = 0
    assert torch.equal(encoder(a), encoder(b))


def test_the_order_of_words_counts() -> None:
    encoder, tokens = transformer(), texts()[2:3]
    assert not torch.allclose(encoder(tokens), encoder(tokens.flip(1)))


def test_a_text_of_padding_alone_is_finite() -> None:
    encoder = transformer()
    out = encoder(torch.zeros(2, 5, dtype=torch.int64))
    assert (out == 0).all()
    out.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_dropout_is_drawn_in_training_alone() -> None:
    encoder = transformer(dropout=0.5)
    tokens = texts()
    assert not torch.equal(encoder(tokens), encoder(tokens))
    encoder.eval()
    assert torch.equal(encoder(tokens), encoder(tokens))


def test_its_arguments_build_it_again() -> None:
    encoder = transformer(dropout=0.1)
    again = TextTransformer(**encoder.arguments)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.eval()(texts()), encoder.eval()(texts()))
    assert (again.dim, again.vocabulary, again.context) == (16, 40, 12)


def test_texts_longer_than_the_context_are_refused() -> None:
    with pytest.raises(ValueError, match=r"L up to the context, 12, got \(2, 13\): a text tower goes with the token"):
        transformer()(torch.ones(2, 13, dtype=torch.int64))

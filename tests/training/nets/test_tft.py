"""The transformer: equal to pytorch-forecasting's blocks, windows shared or not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tests.training.nets.reference import ReferenceTft, tft_state
from training.nets import make_encoder
from training.nets.encoder import Encoder, shared_windows
from training.nets.tft import LastQueryAttention, TftEncoder

FEATURES, WINDOW, HIDDEN = 5, 32, 16


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    """Work in double precision, so that only a wrong formula makes a difference."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(3)
    yield
    torch.set_default_dtype(torch.float32)


def reference(features: int = FEATURES) -> ReferenceTft:
    """Return the library's blocks with every parameter moved off its tidy beginning."""
    network = ReferenceTft(features, WINDOW, HIDDEN)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    network.fit_normalisation((3.0 + 2.0 * torch.randn(500, features)).float().numpy())
    return network


def gradients(answer: Tensor, network: Encoder, windows: Tensor) -> dict[str, Tensor]:
    named = dict(network.named_parameters())
    weight = torch.linspace(-1.0, 1.0, answer.numel()).view_as(answer)
    found = torch.autograd.grad(
        (answer * weight).sum(), [*named.values(), windows], materialize_grads=True
    )
    return dict(zip((*named, "windows"), found, strict=True))


@pytest.mark.parametrize("features", [FEATURES, 24])
def test_it_is_the_library_s_blocks_with_their_weights_carried_over(features: int) -> None:
    theirs, ours = reference(features), TftEncoder(features, WINDOW, HIDDEN)
    windows = (3.0 + 2.0 * torch.randn(9, WINDOW, features)).requires_grad_()
    expected = theirs(windows)
    answer = functional_call(ours, tft_state(theirs), (windows,))
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-12)
    # Through the conversion, so that every parameter of theirs is compared with itself.
    wanted = gradients(expected, theirs, windows)
    for name, gradient in gradients(answer, theirs, windows).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-9, atol=1e-11, msg=name)


@torch.no_grad()
def test_in_single_precision_the_difference_is_below_1e_5() -> None:
    theirs, ours = reference(24).float(), TftEncoder(24, WINDOW, HIDDEN).float()
    ours.load_state_dict(tft_state(theirs))
    windows = 3.0 + 2.0 * torch.randn(64, WINDOW, 24, dtype=torch.float32)
    assert float((ours(windows) - theirs(windows)).abs().max()) < 1e-5
    assert ours(windows).std() > 0.1


@pytest.mark.parametrize("name", ["tft", "lstm"])
def test_shared_rows_give_the_codes_and_gradients_of_plain_windows(name: str) -> None:
    network = make_encoder(name, FEATURES, WINDOW, HIDDEN)
    rows = torch.randn(400, FEATURES, requires_grad=True)
    # Two runs of neighbours that meet, far bars, and more rows than one chunk.
    bars = torch.cat([torch.arange(31, 90), torch.arange(95, 150), torch.tensor([399, 250, 31])])
    plain = network.encode(torch.stack([rows[bar - WINDOW + 1 : bar + 1] for bar in bars]))
    shared = network.encode_bars(rows, bars)
    torch.testing.assert_close(shared, plain, rtol=0, atol=1e-12)
    wanted, found = (gradients(each, network, rows) for each in (plain, shared))
    for each in wanted:
        torch.testing.assert_close(found[each], wanted[each], rtol=1e-9, atol=1e-11, msg=each)


def test_shared_windows_hold_each_row_once() -> None:
    needed, places = shared_windows(torch.tensor([7, 5, 12]), 3, 14)
    assert needed.tolist() == [3, 4, 5, 6, 7, 10, 11, 12]
    assert needed[places].t().tolist() == [[5, 6, 7], [3, 4, 5], [10, 11, 12]]
    with pytest.raises(IndexError):
        shared_windows(torch.tensor([14]), 3, 14)


@torch.no_grad()
def test_weights_that_explain_sum_to_one() -> None:
    network = TftEncoder(FEATURES, WINDOW, HIDDEN)
    shares = network.select.weights(torch.randn(4, WINDOW, FEATURES))
    assert shares.shape == (4, WINDOW, FEATURES)
    _, bars = LastQueryAttention(HIDDEN)(torch.randn(WINDOW, 4, HIDDEN))
    assert bars.shape == (4, WINDOW)
    for each in (shares, bars):
        assert (each > 0.0).all()
        torch.testing.assert_close(each.sum(dim=-1), torch.ones(each.shape[:-1]))


def test_a_width_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden 18 is not a multiple of 4 attention heads"):
        TftEncoder(FEATURES, WINDOW, 18)

"""Market encoders and the head: what they see, what they must not, and how they are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from training.nets import NETWORKS, make_encoder
from training.nets.encoder import Encoder
from training.nets.head import GatedResidualNetwork, Head

FEATURES, WINDOW, HIDDEN = 5, 32, 16


@pytest.fixture(params=sorted(NETWORKS))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    return make_encoder(request.param, FEATURES, WINDOW, HIDDEN).eval()


def rows(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, FEATURES, generator=generator)


def test_an_unknown_network_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"there is no network 'gru'; known are: .*mlp"):
        make_encoder("gru", FEATURES, WINDOW, HIDDEN)


@torch.no_grad()
def test_codes_of_bars_are_the_codes_of_their_raw_windows(encoder: Encoder) -> None:
    raw = 3.0 + 2.0 * rows(100)
    encoder.fit_normalisation(raw.numpy())
    bars = torch.tensor([31, 32, 60, 60, 99])
    windows = torch.stack([raw[bar - WINDOW + 1 : bar + 1] for bar in bars.tolist()])
    codes = encoder.encode_bars(encoder.normalise(raw), bars)
    assert codes.shape == (5, HIDDEN)
    torch.testing.assert_close(codes, encoder(windows))


@torch.no_grad()
def test_a_code_depends_on_every_row_of_its_window_and_on_no_other(encoder: Encoder) -> None:
    raw = rows(100)
    bar = torch.tensor([60])
    code = encoder.encode_bars(raw, bar)
    for row in range(100):
        changed = raw.clone()
        changed[row] += 1.0
        same = torch.equal(encoder.encode_bars(changed, bar), code)
        assert same == (not 60 - WINDOW < row <= 60), f"row {row}"


@torch.no_grad()
def test_normalisation_is_fitted_clipped_and_part_of_the_weights(encoder: Encoder) -> None:
    raw = (10.0 + 4.0 * rows(2_000)).numpy()
    raw[:, 2] = 7.0  # never changes
    encoder.fit_normalisation(raw)
    normal = encoder.normalise(torch.from_numpy(raw))
    moving = [0, 1, 3, 4]
    assert normal[:, moving].mean(dim=0).abs().max() < 1e-4
    assert (normal[:, moving].std(dim=0) - 1.0).abs().max() < 1e-2
    assert torch.equal(normal[:, 2], torch.zeros(2_000))
    far = encoder.normalise(torch.full((1, FEATURES), 1e9))
    # Constant in training, it says nothing later either, however far it goes.
    assert torch.equal(far, torch.tensor([[5.0, 5.0, 0.0, 5.0, 5.0]]))
    assert encoder.std[2] == 0.0 and (encoder.std[moving] > 3.0).all()
    assert encoder.normalise(torch.full((1, FEATURES), torch.nan)).isnan().all()
    assert {"mean", "scale"} <= encoder.state_dict().keys()


def test_features_that_are_not_finite_are_refused_by_column(encoder: Encoder) -> None:
    raw = rows(50).numpy()
    raw[7, 3] = np.nan
    with pytest.raises(ValueError, match=r"feature columns \[3\]"):
        encoder.fit_normalisation(raw)


@torch.no_grad()
def test_head_mixes_the_account_into_the_code() -> None:
    torch.manual_seed(0)
    head = Head(
        GatedResidualNetwork(HIDDEN, context=4),
        torch.nn.Linear(HIDDEN, 7),
        torch.nn.Linear(HIDDEN, 1),
    )
    codes = torch.randn(3, HIDDEN)
    logits, values = head(codes, torch.zeros(3, 4))
    assert logits.shape == (3, 7)
    assert values.shape == (3,)
    other_logits, other_values = head(codes, torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 3))
    assert not torch.allclose(logits, other_logits)
    assert not torch.allclose(values, other_values)


@torch.no_grad()
def test_a_closed_gate_passes_the_input_through_the_norm_alone() -> None:
    network = GatedResidualNetwork(HIDDEN)
    network.gate.bias[HIDDEN:] = -100.0
    inputs = torch.randn(4, HIDDEN)
    expected = torch.nn.functional.layer_norm(inputs, (HIDDEN,))
    torch.testing.assert_close(network(inputs), expected)

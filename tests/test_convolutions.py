"""The hand-written backward passes of convolutions and GRU, against PyTorch's own layers."""

import copy

import pytest
import torch
from torch import nn

from safetransfer.agent import convolutions
from safetransfer.agent.convolutions import Convolutions
from safetransfer.agent.networks import _CNNS
from safetransfer.agent.recurrence import GRU

TINY = ((3, 4, 3), (5, 3, 2), (4, 2, 1))  # strides that leave pixels over at the edges


def pytorch(layers, camera):
    """The same layers as PyTorch runs them, in its own order of memory."""
    plain = nn.Sequential(*copy.deepcopy(list(layers))).to(memory_format=torch.contiguous_format)
    x = camera.permute(0, 3, 1, 2).contiguous().to(torch.float64) / 255.0
    return plain, plain(x).permute(0, 2, 3, 1).flatten(1)


@pytest.mark.parametrize("kept", [0, 2**40], ids=["patches laid out again", "patches kept"])
@pytest.mark.parametrize("block", [1, 20_000, 2**40], ids=["singly", "in blocks", "at once"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ELU, nn.SELU])
@pytest.mark.parametrize(
    ("picture", "layers"),
    [((50, 50, 1), _CNNS["patch"]), ((50, 50, 1), _CNNS["nature"]), ((24, 31, 3), TINY)],
    ids=["patch", "nature", "rgb, not square"],
)
def test_pictures_give_the_features_and_gradients_of_pytorchs_convolutions(
    monkeypatch, picture, layers, activation, block, kept
):
    monkeypatch.setattr(convolutions, "_BLOCK_BYTES", block)
    monkeypatch.setattr(convolutions, "_KEPT_BYTES", kept)
    torch.manual_seed(0)
    ours = Convolutions(picture, layers, activation).double()
    camera = torch.randint(256, (7, *picture), dtype=torch.uint8)
    plain, expected = pytorch(ours, camera)
    features = ours(camera)
    assert features.shape == (7, ours.features)
    assert torch.allclose(features, expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(ours(camera), features)  # where nothing is to be learned

    weights = torch.randn_like(features)
    (features * weights).sum().backward()
    (expected * weights).sum().backward()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert one.grad.shape == other.grad.shape
        assert torch.allclose(one.grad, other.grad, rtol=1e-10, atol=1e-10)


def test_pictures_that_are_a_part_of_a_larger_array_are_taken_as_they_are():
    ours = Convolutions((50, 50, 1), _CNNS["patch"], nn.ReLU)
    camera = torch.randint(256, (5, 60, 50, 1), dtype=torch.uint8)
    part = camera[1:4, 5:55]
    assert not part.is_contiguous()
    assert torch.equal(ours(part), ours(part.contiguous()))


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 4), (7, 3)])
def test_the_gru_gives_the_states_and_gradients_of_pytorchs(steps, batch):
    torch.manual_seed(0)
    ours = GRU(5, 4).double()
    plain = nn.GRU(5, 4).double()
    plain.load_state_dict(ours.state_dict())
    inputs = torch.randn(steps, batch, 5, dtype=torch.float64)
    carry = torch.randn(1, batch, 4, dtype=torch.float64)
    weights = torch.randn(steps, batch, 4, dtype=torch.float64)
    results = []
    for gru in (ours, plain):
        x, h0 = inputs.clone().requires_grad_(), carry.clone().requires_grad_()
        states, last = gru(x, h0)
        ((states * weights).sum() + last.square().sum()).backward()
        results.append((states, last, x.grad, h0.grad, *(p.grad for p in gru.parameters())))
    for one, other in zip(*results, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)

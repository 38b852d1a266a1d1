"""Muon beside torch's own, and who moves which parameter."""

import pytest
import torch
from torch import nn

from t2i.engine.optim import (
    Muon,
    inner_matrices,
    make_optimizers,
    orthogonalize,
    set_learning_rates,
)
from t2i.runs.recipes import recipe


def test_orthogonalize_makes_all_singular_values_about_one():
    torch.manual_seed(0)
    matrices = [torch.randn(shape) for shape in [(6, 6), (5, 40), (40, 5), (1, 7), (5, 9)]]
    for matrix, found in zip(matrices, orthogonalize(matrices), strict=True):
        u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
        values = torch.linalg.svdvals(found)
        assert values.min() > 0.6 and values.max() < 1.3
        # the same directions: U Vᵀ of the matrix, up to the spread of the values
        assert torch.linalg.matrix_norm(found - u @ vt, 2) < 0.4


@pytest.mark.parametrize("shape", [(64, 576), (64, 64), (128, 32)])
def test_orthogonalize_does_to_each_singular_value_what_its_polynomial_says(shape):
    """σ ← 3.4445 σ - 4.7750 σ³ + 2.0315 σ⁵, five times, to float32's precision."""
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, values, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    expected = u @ values.diag() @ vt
    torch.testing.assert_close(orthogonalize([matrix])[0].double(), expected, rtol=0, atol=1e-4)


def test_orthogonalize_leaves_nothing_as_nothing():
    assert orthogonalize([torch.zeros(3, 4)])[0].equal(torch.zeros(3, 4))


@pytest.mark.parametrize("shape", [(8, 24), (24, 8)])
def test_muon_is_torchs_own_on_matrices(shape):
    """torch rounds to bfloat16, and ours may: 1 to 3 % apart; without Nesterov it were 20 %."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = (
        Muon([ours], lr=0.02, momentum=0.9, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, momentum=0.9, weight_decay=0.1, nesterov=True),
    )
    for _ in range(3):
        gradient = torch.randn(shape)
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            p.grad = gradient.clone()
            optimizer.step()
    moved = (ours - start).norm()
    assert (ours - theirs).norm() < 0.06 * moved


def test_a_convolution_is_the_matrix_of_its_filters():
    torch.manual_seed(0)
    conv = nn.Parameter(torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last))
    matrix = nn.Parameter(conv.detach().flatten(1).clone())
    conv.grad = torch.randn(4, 3, 3, 3)
    matrix.grad = conv.grad.flatten(1)
    for p in (conv, matrix):
        Muon([p], lr=0.1).step()
    torch.testing.assert_close(conv.flatten(1), matrix)


def test_a_network_of_matrices_alone_needs_no_adamw():
    (only,) = make_optimizers(nn.Linear(2, 2, bias=False), 1e-3, muon_rate=0.02)
    assert isinstance(only, Muon)


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match=r"matrices or convolutions, got \(5,\)"):
        Muon([nn.Parameter(torch.zeros(5))])


def test_every_parameter_has_one_optimizer_and_the_ends_stay_with_adamw():
    model = recipe("smoke").build()
    adamw, muon = make_optimizers(model, 1e-3, muon_rate=0.02)
    held = [p for optimizer in (adamw, muon) for p in optimizer.param_groups[0]["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))
    inner = {id(p) for p in inner_matrices(model)}
    assert id(model.unet.conv_in.weight) not in inner
    assert id(model.unet.conv_out.weight) not in inner
    assert id(model.unet.mid.blocks[0].conv1.weight) in inner
    assert all(p.ndim >= 2 for p in muon.param_groups[0]["params"])
    assert len(make_optimizers(model, 1e-3)) == 1


def test_both_rates_follow_one_schedule():
    optimizers = make_optimizers(nn.Linear(3, 3), 1e-3, muon_rate=0.02)
    set_learning_rates(optimizers, 0.25)
    assert [o.param_groups[0]["lr"] for o in optimizers] == [0.25e-3, 0.005]


def trained_as(recorded: bool) -> nn.Module:
    """A network with matrices, a convolution and vectors, after four updates by both optimisers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(36, 5), nn.LayerNorm(5))
    optimizers = make_optimizers(model, 1e-2, 0.05, weight_decay=0.1, recorded=recorded)
    for share in (0.2, 1.0, 0.6, 0.1):
        set_learning_rates(optimizers, share)
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        for optimizer in optimizers:
            optimizer.step()
    return model


def test_for_a_recording_rates_are_numbers_in_memory_that_are_overwritten():
    optimizers = make_optimizers(nn.Linear(3, 3), 1e-3, muon_rate=0.02, recorded=True)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    for share in (0.25, 0.5):
        set_learning_rates(optimizers, share)
        assert [rate.item() for rate in rates] == pytest.approx([share * 1e-3, share * 0.02])
    for optimizer, rate in zip(optimizers, rates, strict=True):
        assert optimizer.param_groups[0]["lr"] is rate  # a recording reads this very place


def test_rates_in_memory_move_the_weights_as_plain_numbers_do():
    plain, recorded = trained_as(False), trained_as(True)
    for one, other in zip(plain.parameters(), recorded.parameters(), strict=True):
        torch.testing.assert_close(other, one)

"""Optimisers: AdamW, and Muon for the matrices, which learns more from each batch.

    optimizers = make_optimizers(model, learning_rate=2e-3, muon_rate=0.02)
    set_learning_rates(optimizers, share=0.5)             # half of each one's highest rate
    for optimizer in optimizers:
        optimizer.step()

A weight matrix turns one vector into another. AdamW moves each of its numbers by itself; Muon turns
the whole update into a rotation, so that no direction of the matrix is learnt much faster than the
others. On a small budget that counts: lesson 3's model needs about half as many steps.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from t2i.engine.distributed import part_like, whole


def make_optimizers(
    model: nn.Module,
    learning_rate: float,
    muon_rate: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.01,
    recorded: bool = False,
) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the matrices inside and AdamW for the rest.

    Args:
        model: whose parameters are to be learnt.
        learning_rate: AdamW's highest.
        muon_rate: Muon's highest; 0 leaves everything to AdamW.
        betas, weight_decay: AdamW's; weight_decay is Muon's too.
        recorded: for a step that a GPU records: learning rates are numbers in its memory.
    """
    inner = {id(p) for p in inner_matrices(model)} if muon_rate else set()
    rest = [p for p in model.parameters() if id(p) not in inner]
    adamw = {"lr": learning_rate, "betas": betas, "weight_decay": weight_decay}
    made = []
    if rest:
        made.append(torch.optim.AdamW(rest, fused=True, capturable=recorded, **adamw))
    if inner:
        matrices = [p for p in model.parameters() if id(p) in inner]
        made.append(Muon(matrices, lr=muon_rate, weight_decay=weight_decay))
    for group in (optimizer.param_groups[0] for optimizer in made):
        group["highest_lr"] = group["lr"]
        if recorded:
            group["lr"] = torch.tensor(group["lr"], device=group["params"][0].device)
    return made


def set_learning_rates(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Give each optimiser this share of its own highest learning rate."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(share * group["highest_lr"])
        else:
            group["lr"] = share * group["highest_lr"]


def inner_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights of linear layers and convolutions, but for a UNet's conv_in and conv_out.

    Muon is for layers between layers; tables of vectors and the two ends fare better with AdamW.
    A transformer's ends (patch_in, context_in, patch_out) are among them all the same: the
    committed weights were trained so.
    """
    return [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and name.rpartition(".")[2] not in ("conv_in", "conv_out")
    ]


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is made orthogonal before it is applied.

    W ← (1 - lr · weight_decay) · W - lr · √max(1, rows/columns) · orthogonalize(momentum)

    Convolutions count as matrices of (out_channels, in_channels · height · width). Where processes
    keep parts of a matrix, its update is put together first: a part has no rotation of its own.

    Args:
        params: tensors of two or more dimensions.
        lr: learning rate; about 0.02, whatever the size of the model.
        momentum: share of the old direction that is kept; Nesterov's form is used.
        weight_decay: pull of the weights towards 0.

    Raises:
        ValueError: a parameter has fewer than two dimensions.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
        torch.optim.Muon is the same for matrices alone, in bfloat16.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ):
        params = list(params)
        for p in params:
            if p.ndim < 2:
                raise ValueError(f"params must be matrices or convolutions, got {tuple(p.shape)}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            wanted = [self._direction(p, group["momentum"]) for p in params]
            for p, update in zip(params, orthogonalize(wanted), strict=True):
                stretch = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * stretch * part_like(update.reshape(p.shape), p))

    def _direction(self, p: nn.Parameter, keep: float) -> Tensor:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        momentum = state["momentum"].lerp_(p.grad, 1 - keep)
        return whole(p.grad.lerp(momentum, keep)).flatten(1)


def orthogonalize(matrices: Iterable[Tensor], steps: int = 5) -> list[Tensor]:
    """For each matrix the nearest one whose singular values are all about 1.

    X = U Σ Vᵀ -> U Vᵀ = (XXᵀ)^(-1/2) · X

    Args:
        matrices: (rows, columns) each; the shapes may differ.
        steps: repetitions of inverse_root; after 5 the singular values lie roughly between 0.7
            and 1.2.

    Returns:
        matrices of the same shapes.

    Source: Jordan et al. 2024, as in Muon; Björck and Bowie 1971.
    """
    matrices = list(matrices)
    wide = [x.mT if x.shape[0] > x.shape[1] else x for x in matrices]
    alike = defaultdict(list)  # many small matrices: those with as many rows go together
    for number, x in enumerate(wide):
        alike[len(x)].append(number)
    for numbers in alike.values():
        roots = inverse_root(torch.stack([wide[n] @ wide[n].mT for n in numbers]), steps)
        for n, root in zip(numbers, roots, strict=True):
            wide[n] = root @ wide[n]
    return [
        x.mT if matrix.shape[0] > matrix.shape[1] else x
        for matrix, x in zip(matrices, wide, strict=True)
    ]


def inverse_root(gram: Tensor, steps: int) -> Tensor:
    """About (XXᵀ)^(-1/2) for each XXᵀ, which is smaller than X.

    X, first made so small that no singular value is above 1, is multiplied again and again by
    P = a + b·XXᵀ + c·(XXᵀ)². That pushes its singular values towards 1 without computing any.

    Args:
        gram: (B, n, n), the products XXᵀ.
        steps: repetitions.

    Returns:
        (B, n, n), what X is multiplied by in all.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    one = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    size = gram.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()[:, None, None] + 1e-7  # X's norm
    gram, product = gram / size**2, one / size
    for _ in range(steps):
        p = a * one + b * gram + c * gram @ gram
        product = p @ product
        gram = p @ gram @ p
    return product

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

from t2i.distributed import part_like, whole


def make_optimizers(
    model: nn.Module,
    learning_rate: float,
    muon_rate: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.01,
) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the matrices inside and AdamW for the rest.

    Args:
        model: whose parameters are to be learnt.
        learning_rate: AdamW's highest.
        muon_rate: Muon's highest; 0 leaves everything to AdamW.
        betas, weight_decay: AdamW's; weight_decay is Muon's too.
    """
    inner = {id(p) for p in inner_matrices(model)} if muon_rate else set()
    rest = [p for p in model.parameters() if id(p) not in inner]
    adamw = {"lr": learning_rate, "betas": betas, "weight_decay": weight_decay}
    made = [torch.optim.AdamW(rest, fused=True, **adamw)]
    if inner:
        matrices = [p for p in model.parameters() if id(p) in inner]
        made.append(Muon(matrices, lr=muon_rate, weight_decay=weight_decay))
    for optimizer in made:
        optimizer.param_groups[0]["highest_lr"] = optimizer.param_groups[0]["lr"]
    return made


def set_learning_rates(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Give each optimiser this share of its own highest learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
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


def native_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself; imitated, it is many times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return able.get("amx_bf16", False) or able.get("avx512_bf16", False)


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
        torch.optim.Muon is the same for matrices alone, always in bfloat16.
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
            alike = defaultdict(list)  # many small matrices: those of one shape go together
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape].append(p)
            for params in alike.values():
                self._move(params, group)

    def _move(self, params: list[nn.Parameter], group: dict) -> None:
        wanted = torch.stack([self._direction(p, group["momentum"]) for p in params])
        if native_bf16(wanted.device):  # coarse numbers are enough, and twice as fast
            wanted = wanted.bfloat16()
        updates = orthogonalize(wanted).to(params[0].dtype)
        stretch = max(1.0, updates.shape[1] / updates.shape[2]) ** 0.5
        for p, update in zip(params, updates, strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(part_like(update.view(p.shape), p), alpha=-group["lr"] * stretch)

    def _direction(self, p: nn.Parameter, keep: float) -> Tensor:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        momentum = state["momentum"].lerp_(p.grad, 1 - keep)
        return whole(p.grad.lerp(momentum, keep)).flatten(1)


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest matrix whose singular values are all about 1: U Vᵀ of the matrix U Σ Vᵀ.

    X ← a·X + (b·XXᵀ + c·(XXᵀ)²)·X pushes every singular value towards 1 without computing any.

    Args:
        matrix: (..., rows, columns), one matrix or many.
        steps: repetitions; after 5 the singular values lie roughly between 0.7 and 1.2.

    Returns:
        (..., rows, columns).

    Source: Jordan et al. 2024, as in Muon; Björck and Bowie 1971.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        xx = x @ x.mT
        x = a * x + (b * xx + c * xx @ xx) @ x
    return x.mT if tall else x

"""What lesson 10's transformer learns in one step, by one process or by many.

told, t, noise = flow_draws(z_0, team)                     # what is left to chance
loss = prompt_flow_loss(model, z_0, prompt, nothing, team) # prompts that were read long ago
"""

import torch
from torch import Tensor

from t2i.engine.distributed import ALONE, Team
from t2i.flow import logit_normal_times, rectified_flow_loss
from t2i.guidance import drop_condition
from t2i.runs.class_recipes import COND_DROP_PROB
from t2i.text_to_image import Prompt, TextDiT


def flow_draws(z_0: Tensor, team: Team = ALONE) -> tuple[Tensor, Tensor, Tensor]:
    """What is left to chance in a step: which rows are told their prompt, their times, their noise.

    All is drawn for the whole batch of the team, and this process takes what belongs to its rows.
    So it makes no difference how many processes share a batch.

    Args:
        z_0: (B, c, h, w) this process's latents.
        team: who shares the batch.

    Returns:
        told: (B,) bool, True in about nine rows of ten; t: (B,) in (0, 1); noise: like z_0.
    """
    count, device = team.size * len(z_0), z_0.device
    ones = torch.ones(count, dtype=torch.int64, device=device)
    told = drop_condition(ones, 0, COND_DROP_PROB).bool()
    t = logit_normal_times(torch.randn(count, device=device))
    noise = torch.randn(count, *z_0.shape[1:], device=device)
    return team.rows(told, t, noise)


def prompt_flow_loss(
    model: TextDiT, z_0: Tensor, prompt: Prompt, nothing: Prompt, team: Team = ALONE
) -> Tensor:
    """The rectified flow's loss with prompts whose vectors are at hand.

    Args:
        model: the transformer.
        z_0: (B, c, h, w) scaled latents.
        prompt: of each; one in ten is replaced.
        nothing: the empty prompt, B = 1, of the same length L.
        team: who shares the batch.
    """
    told, t, noise = flow_draws(z_0, team)
    context, mask, pooled = (
        torch.where(told.reshape(-1, *[1] * (vectors.ndim - 1)), vectors, silence)
        for vectors, silence in zip(prompt, nothing, strict=True)
    )
    return rectified_flow_loss(lambda z_t, t: model(z_t, t, context, mask, pooled), z_0, t, noise)

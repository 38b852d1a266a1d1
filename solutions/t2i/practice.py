"""Which steps a network practises, and how much each of them counts.

Every step t is its own task: near t = 0 a few specks are to be found, near T the picture must be
guessed. Which of them a small network practises most decides what it learns in a few minutes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from t2i.schedules import gather

Predictor = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) -> noise_pred


def random_steps(like: Tensor, num_train_timesteps: int) -> Tensor:
    """A step to train on for each picture, the noisy ones more often than the almost clean ones.

    t = ⌊T · √u⌋ with u uniform in [0, 1): step 800 comes twice as often as step 400. The shape of
    a digit is decided where there is much noise; at the first steps only specks are left to find.

    Args:
        like: (B, ...) the pictures.
        num_train_timesteps: T.

    Returns:
        t: (B,) int64 in [0, T).
    """
    u = torch.rand(len(like), device=like.device)
    return (num_train_timesteps * u.sqrt()).long().clamp(max=num_train_timesteps - 1)


def middle_steps(like: Tensor, num_train_timesteps: int) -> Tensor:
    """A step to train on for each picture: nine of ten where a digit's shape is decided.

    t = ⌊T · sigmoid(1 + 0.7 · n)⌋ with n from N(0, 1): half of these lie between 0.63 T and 0.81 T.
    Every tenth step is drawn evenly from [0, 0.45 T) instead, where the last specks are found.

    Args, Returns: as random_steps.

    Source: Esser et al. 2024, arXiv:2403.03206, section 3.1 (the logit-normal times that lesson
        10 writes for its own clock from 0 to 1).
    """
    shape = torch.sigmoid(1 + 0.7 * torch.randn(len(like), device=like.device))
    specks = 0.45 * torch.rand(len(like), device=like.device)
    early = torch.rand(len(like), device=like.device) < 0.1
    t = num_train_timesteps * torch.where(early, specks, shape)
    return t.long().clamp(max=num_train_timesteps - 1)


def heard_by_noise(predict: Predictor, alphas_cumprod: Tensor) -> Predictor:
    """The same predictions, but each is corrected only as far as there is noise in its picture.

    In x_t the noise has the variance 1 - ᾱ_t, and that is what an error of the prediction is worth
    there. So the gradient gets this factor, and the value stays: a loss that is reckoned from it is
    still ddpm_loss, and the steps with little noise, whose errors are the largest, no longer
    outshout the others.

    Args:
        predict: (x_t, t) -> noise_pred.
        alphas_cumprod: (T,).
    """

    def heard(x_t: Tensor, t: Tensor) -> Tensor:
        noise_pred = predict(x_t, t)
        if noise_pred.requires_grad:
            share = 1 - gather(alphas_cumprod, t, like=x_t)
            noise_pred.register_hook(lambda gradient: share * gradient)
        return noise_pred

    return heard

"""The clipped objective of PPO over one minibatch.

Source: Schulman et al., Proximal Policy Optimization Algorithms, arXiv 1707.06347, equations 7
to 9.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from training.rl.hyperparameters import Hyperparameters

MEASURES = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
"""What `ppo_loss` measures, in its order."""


class Minibatch(NamedTuple):
    """Hold B steps of a rollout, each tensor (B,)."""

    actions: Tensor
    log_probs: Tensor
    """Of the actions, when they were taken."""
    advantages: Tensor
    returns: Tensor


def ppo_loss(
    log_probs: Tensor, values: Tensor, steps: Minibatch, settings: Hyperparameters
) -> tuple[Tensor, list[Tensor]]:
    """Return the loss () and its measures () of a policy's answers to B steps.

    log_probs (B, actions) are of all actions, values (B,) the critic's.
    """
    log_ratio = log_probs.gather(1, steps.actions[:, None])[:, 0] - steps.log_probs
    ratio = log_ratio.exp()
    # Scaled within the batch, so that a calm and a wild market learn at the same pace.
    advantages = (steps.advantages - steps.advantages.mean()) / (steps.advantages.std() + 1e-8)
    clipped = ratio.clamp(1.0 - settings.clip, 1.0 + settings.clip)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = functional.mse_loss(values, steps.returns)
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1).mean()
    loss = policy_loss + settings.value_weight * value_loss - settings.entropy_weight * entropy
    with torch.no_grad():
        # Low in variance and never negative: http://joschu.net/blog/kl-approx.html
        approx_kl = (ratio - 1.0 - log_ratio).mean()
        clip_fraction = ((ratio - 1.0).abs() > settings.clip).float().mean()
    measures = [policy_loss, value_loss, entropy, approx_kl, clip_fraction]
    return loss, [each.detach() for each in measures]

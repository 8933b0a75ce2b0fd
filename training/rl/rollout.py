"""One rollout of BarPPO as tensors on the device: its steps, advantages and minibatches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from training.rl.ppo_loss import Minibatch


class Rollout:
    """Hold the steps of all accounts between two updates, each tensor (rollout_steps, accounts)."""

    def __init__(
        self, steps: int, accounts: int, account_size: int, device: torch.device | str
    ) -> None:
        self.steps, self.accounts = steps, accounts
        shape = (steps, accounts)
        self.bars = torch.zeros(shape, dtype=torch.int64, device=device)
        self.account_states = torch.zeros((*shape, account_size), device=device)
        self.actions = torch.zeros(shape, dtype=torch.int64, device=device)
        self.log_probs = torch.zeros(shape, device=device)
        self.values = torch.zeros(shape, device=device)
        self.rewards = torch.zeros(shape, device=device)
        self.ends = torch.zeros(shape, device=device)
        self.bootstraps = torch.zeros(shape, device=device)
        self.advantages = torch.zeros(shape, device=device)
        self.returns = torch.zeros(shape, device=device)

    def compute_gae(self, last_values: Tensor, gamma: float, gae_lambda: float) -> None:
        """Fill advantages and returns from the values (accounts,) after the last step.

        An episode that ended in time alone goes on in truth: `bootstraps` holds the value of where
        it was cut off, 0 where it ended for good.
        """
        advantage = torch.zeros_like(last_values)
        next_values = last_values
        continues = 1.0 - self.ends
        rewards = self.rewards + gamma * self.bootstraps
        # From the last step back: each advantage is made of the one after it.
        for step in range(self.steps - 1, -1, -1):
            alive = continues[step]
            delta = rewards[step] + gamma * alive * next_values - self.values[step]
            advantage = delta + gamma * gae_lambda * alive * advantage
            self.advantages[step] = advantage
            next_values = self.values[step]
        torch.add(self.advantages, self.values, out=self.returns)

    def minibatches(
        self, batch_size: int, segment_bars: int, group: int, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield each step once, as row numbers (up to batch_size,) into the flattened tensors.

        Blocks of `segment_bars` steps by the `group` accounts of one path are shuffled whole, so
        that the bars in them are shared.
        """
        rows = torch.arange(self.steps * self.accounts, device=generator.device)
        blocks = (
            rows.view(self.steps // segment_bars, segment_bars, self.accounts // group, group)
            .transpose(1, 2)
            .reshape(-1, segment_bars * group)
        )
        order = torch.randperm(len(blocks), generator=generator, device=generator.device)
        yield from blocks[order].view(-1).split(batch_size)

    def steps_at(self, rows: Tensor) -> Minibatch:
        """Return the steps of row numbers (B,) into the flattened tensors."""
        return Minibatch(
            self.actions.view(-1)[rows],
            self.log_probs.view(-1)[rows],
            self.advantages.view(-1)[rows],
            self.returns.view(-1)[rows],
        )

    def explained_variance(self) -> float:
        """Return the share of the returns' variance the critic foresaw; below 0 it misleads."""
        # Of returns that are all alike nothing can be foreseen, nor may one divide by 0.
        variance = self.returns.var()
        if not float(variance) > 0.0:
            return 0.0
        return float(1.0 - (self.returns - self.values).var() / variance)

"""BarPPO: stable-baselines3's PPO, with the market encoded once per bar.

Stock PPO calls the whole network for every step of every account and again in every epoch, on
windows copied through numpy. Here an observation is a bar number and the account state, the
encoder runs once per distinct bar of a rollout or minibatch, and everything the update needs
stays on the device as tensors. The losses, the policy class, the optimizer, the schedules, the
callbacks and the outer loop are stable-baselines3's.

The environment is numpy on the CPU whatever the device: each step copies a few numbers per account
to the device and waits for the actions to come back. With 64 accounts a data-centre GPU is held up
by that and by its launches (34,000 steps a second against 68,000 on one core); with 2,048 it does
889,000 against 156,000. Forecasting takes it half the time in either case.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from training.nets.head import Head
from training.rl.bar_model import BarModel
from training.rl.checkpoints import Checkpoint
from training.rl.forecasting import HORIZONS, Forecaster, forecast_targets
from training.rl.kl_anchor import KlAnchor
from training.rl.ppo_loss import MEASURES, ppo_loss
from training.rl.progress import Progress, Reporter, TrainingDiverged
from training.rl.training_state import training_identity

__all__ = ["BarPPO", "Progress", "TrainingDiverged"]

# Healthy updates stay below 0.1; beyond this the policy has left the data it was scored on.
MAX_KL = 5.0
_MEASURES = (*MEASURES, "gradient_norm")


class BarPPO(BarModel):
    """Train one policy on one span of bars.

    features are the rows (T, F) that the environment's bars number. The normalisation is fitted on
    the rows of its episodes alone, so nothing later than the training span is learned from. The
    same seed on one CPU thread gives the same weights bit for bit; other thread counts, machines
    and CUDA give close ones.
    """

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "BarPPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        *,
        progress: Callable[[Progress], None] | None = None,
        time_budget_seconds: float | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> BarPPO:
        """Train for at least total_timesteps, in whole rollouts, and return self.

        Where the settings say so the encoder learns to forecast first, and is frozen then.
        progress is called at most ten times a second, after each forecasting epoch, and once at the
        end. When the time budget is spent no further epoch or rollout is begun and `stopped_early`
        is set. With a checkpoint the state is kept as it goes, and a training of a fresh model goes
        on from what is kept of the same training. Raises TrainingDiverged when a loss, gradient or
        weight stops being a number or the policy runs away, and ValueError where there are too few
        bars to forecast.
        """
        self._checkpoint = checkpoint
        if checkpoint is not None and self._resume(checkpoint, total_timesteps):
            # Without an observation not a step was played, and the environment is to be reset.
            reset_num_timesteps = self._last_obs is None
            total_timesteps -= self.num_timesteps
        before = 0 if reset_num_timesteps else self.num_timesteps
        self._reporter = Reporter(progress, time_budget_seconds, before)
        self.stopped_early = False
        self._forecast(before + total_timesteps)
        super().learn(
            total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
        )
        self.policy.set_training_mode(False)
        self._reporter.end(stopped_early=self.stopped_early)
        return self

    def _resume(self, checkpoint: Checkpoint, total_timesteps: int) -> bool:
        """Take up what an earlier training of the same kind left; return whether there was any."""
        env, settings = self.batch_env, self.hyperparameters
        state = checkpoint.open(
            training_identity(env, self.features, settings, self.seed, total_timesteps)
        )
        if state is not None:
            self.load_training_state(state)
        return state is not None

    def anchor_to_current_policy(self, weight: float) -> None:
        """Price it from now on to leave the policy as it is, by so many times the divergence."""
        self.anchor = KlAnchor(
            self.encoder, self.head, self.extractor.rows, self._training_bars, weight
        )

    def forecast(self) -> None:
        """Teach the encoder to forecast now, where the settings say so, and not in `learn`."""
        self._forecast(0)

    @property
    def _training_bars(self) -> range:
        """Return the bars of the episodes that have a whole window behind them."""
        episodes = self.batch_env.episodes
        stop = len(self.features) if episodes.stop is None else episodes.stop
        return range(episodes.start + self.hyperparameters.window - 1, stop)

    def _forecast(self, total_timesteps: int) -> None:
        """Teach the encoder to forecast, unless it knows how, and freeze it where that is set."""
        settings = self.hyperparameters
        if settings.forecast_epochs and not self._has_forecast:
            self._run_forecaster(total_timesteps)
            self._has_forecast = True
        if settings.freeze_encoder and not self._has_forecast:
            raise ValueError("an encoder that learned nothing is not to be frozen: forecast first")
        if settings.freeze_encoder and not self._is_frozen:
            self.encoder.requires_grad_(False)
            self.policy.set_training_mode(False)
            self.codes.clear()
            with torch.inference_mode():
                self.codes.fill(self._training_bars)
            self._is_frozen = True

    def _run_forecaster(self, total_timesteps: int) -> None:
        """Run the epochs of forecasting that are left; only rows of the episodes are looked at."""
        settings, bars = self.hyperparameters, self._training_bars
        self.policy.set_training_mode(True)
        targets = forecast_targets(self.batch_env.panel.slice(0, bars.stop))
        forecaster = Forecaster(
            self.encoder,
            self.extractor.rows,
            torch.from_numpy(targets).to(self.device),
            bars[: -max(HORIZONS)],
            settings,
            self.seed or 0,
        )
        if self._forecaster_state is not None:
            forecaster.load_state_dict(self._forecaster_state)
            self._forecaster_state = None
        while not (forecaster.is_done or self._reporter.is_out_of_time()):
            loss = forecaster.run_epoch()
            self._reporter.forecast(
                forecaster.epochs_done, settings.forecast_epochs, loss, total_timesteps
            )
            if self._checkpoint is not None:
                # After each, whatever the time: epochs are few and slow.
                forecasting = {"forecaster": forecaster.state_dict()}
                self._checkpoint.save(self.training_state() | forecasting)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Play one rollout into `self.rollout`; return False to stop the training."""
        if self._reporter.is_out_of_time():
            self.stopped_early = True
            return False
        self.policy.set_training_mode(False)
        if not self._is_frozen:
            self.codes.clear()
        if self._checkpoint is not None:
            self._checkpoint.save_if_due(self.training_state)
        callback.on_rollout_start()
        rollout, head = self.rollout, self.head
        with torch.inference_mode():
            for step in range(n_rollout_steps):
                logits, values = self._evaluate_observations(
                    head, self._last_obs, n_rollout_steps - step
                )
                log_probs = logits.log_softmax(dim=-1)
                actions = torch.multinomial(log_probs.exp(), 1, generator=self.random)
                rollout.values[step] = values
                rollout.actions[step] = actions[:, 0]
                rollout.log_probs[step] = log_probs.gather(1, actions)[:, 0]
                self._step_env(env, step, actions[:, 0].cpu().numpy())
                if not callback.on_step():
                    return False
            rollout.compute_gae(
                self._evaluate_observations(head, self._last_obs, 0)[1],
                self.hyperparameters.gamma,
                self.hyperparameters.gae_lambda,
            )
        callback.on_rollout_end()
        return True

    def _evaluate_observations(
        self, head: Head, observations: Any, ahead: int
    ) -> tuple[Tensor, Tensor]:
        codes = self.codes.get_or_encode(observations["bar"][:, 0], ahead)
        accounts = torch.from_numpy(observations["account"]).to(self.device)
        logits, values = head(codes, accounts)
        return logits, values

    def _step_env(self, env: VecEnv, step: int, actions: npt.NDArray[np.int64]) -> None:
        rollout = self.rollout
        before: Any = self._last_obs
        after: Any
        after, rewards, ends, infos = env.step(actions)
        self._last_obs = after
        if not np.isfinite(rewards).all():
            bar = int(before["bar"][~np.isfinite(rewards)][0, 0]) + 1
            raise TrainingDiverged(
                f"a reward of the step to bar {bar} is not finite: look at the prices around there"
            )
        self.num_timesteps += env.num_envs
        rollout.bars[step] = torch.from_numpy(before["bar"][:, 0])
        rollout.account_states[step] = torch.from_numpy(before["account"])
        rollout.rewards[step] = torch.from_numpy(rewards)
        rollout.ends[step] = torch.from_numpy(ends)
        rollout.bootstraps[step] = 0.0
        cut = [
            row for row in np.flatnonzero(ends).tolist() if infos[row].get("TimeLimit.truncated")
        ]
        if cut:
            last = [infos[row]["terminal_observation"] for row in cut]
            stacked = {key: np.stack([each[key] for each in last]) for key in last[0]}
            rollout.bootstraps[step, cut] = self._evaluate_observations(self.head, stacked, 0)[1]

    def train(self) -> None:
        """Update the policy from `self.rollout` by the clipped objective of PPO."""
        self.policy.set_training_mode(True)
        optimizer = self.policy.optimizer
        self._update_learning_rate(optimizer)
        settings, head = self.hyperparameters, self.head
        parameters = [each for each in self.policy.parameters() if each.requires_grad]
        measured = []
        for _ in range(settings.epochs):
            for rows in self.rollout.minibatches(
                settings.batch_size, settings.segment_bars, settings.group, self.random
            ):
                loss, measures = self._loss(rows, head)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = clip_grad_norm_(parameters, settings.max_gradient_norm)
                optimizer.step()
                measured.append(torch.stack([*measures, norm]))
        self._n_updates += settings.epochs
        # Read once for all minibatches: every read makes the host wait for the device.
        means = torch.stack(measured).mean(dim=0).tolist()
        self._finish_update(dict(zip(_MEASURES, means, strict=True)))

    def _loss(self, rows: Tensor, head: Head) -> tuple[Tensor, list[Tensor]]:
        rollout = self.rollout
        bars = rollout.bars.view(-1)[rows]
        # A frozen encoder's codes are right for ever; one that learns is asked at every update.
        codes = self.codes.get(bars) if self._is_frozen else self.extractor.codes(bars)
        accounts = rollout.account_states.flatten(0, 1)[rows]
        logits, values = head(codes, accounts)
        log_probs = logits.log_softmax(dim=-1)
        loss, measures = ppo_loss(log_probs, values, rollout.steps_at(rows), self.hyperparameters)
        if self.anchor is not None:
            loss = loss + self.anchor.penalty(bars, accounts, log_probs)
        return loss, measures

    def _finish_update(self, means: dict[str, float]) -> None:
        for name, value in means.items():
            if not math.isfinite(value):
                raise TrainingDiverged(
                    f"{name} is {value} after {self.num_timesteps} steps: look for extreme "
                    f"features or prices, else lower the learning rate"
                )
            self.logger.record(f"train/{name}", value)
        if means["approx_kl"] > MAX_KL:
            raise TrainingDiverged(
                f"the policy ran away after {self.num_timesteps} steps (approx_kl "
                f"{means['approx_kl']:.1f}, allowed {MAX_KL:g}): lower the learning rate"
            )
        self._reporter.policy(
            self.num_timesteps,
            self._total_timesteps,
            means,
            mean_reward=float(self.rollout.rewards.mean()),
            explained_variance=self.rollout.explained_variance(),
            learning_rate=float(self.policy.optimizer.param_groups[0]["lr"]),
        )

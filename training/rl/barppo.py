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
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from bots.decision.observation import WINDOW, Float32Array
from training.nets import Encoder
from training.nets.extractor import BarExtractor
from training.nets.head import Head
from training.rl.checkpoints import Checkpoint
from training.rl.env import BatchEnv
from training.rl.forecasting import HORIZONS, Forecaster, forecast_targets
from training.rl.hyperparameters import Hyperparameters
from training.rl.kl_anchor import KlAnchor
from training.rl.progress import Progress, Reporter, TrainingDiverged
from training.rl.rollout import EmbeddingCache, Rollout

__all__ = ["BarPPO", "Progress", "TrainingDiverged"]

# Healthy updates stay below 0.1; beyond this the policy has left the data it was scored on.
MAX_KL = 5.0
_ADAM_EPSILON = 1e-5
_MEASURES = (
    "policy_loss",
    "value_loss",
    "entropy",
    "approx_kl",
    "clip_fraction",
    "gradient_norm",
)


class _NoBuffer(RolloutBuffer):
    """Stand in for stable-baselines3's numpy buffer, which BarPPO does not use."""

    def reset(self) -> None:
        """Allocate nothing."""


class BarPPO(PPO):
    """Train one policy on one span of bars.

    features are the rows (T, F) that the environment's bars number. The normalisation is fitted on
    the rows of its episodes alone, so nothing later than the training span is learned from. The
    same seed on one CPU thread gives the same weights bit for bit; other thread counts, machines
    and CUDA give close ones.
    """

    def __init__(
        self,
        env: BatchEnv,
        features: Float32Array,
        hyperparameters: Hyperparameters | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        settings = hyperparameters or Hyperparameters()
        _require_fit(env, features, settings)
        super().__init__(
            MultiInputActorCriticPolicy,
            env,
            learning_rate=settings.learning_rate_at,
            n_steps=settings.rollout_steps,
            batch_size=settings.batch_size,
            n_epochs=settings.epochs,
            gamma=settings.gamma,
            gae_lambda=settings.gae_lambda,
            clip_range=settings.clip,
            ent_coef=settings.entropy_weight,
            vf_coef=settings.value_weight,
            max_grad_norm=settings.max_gradient_norm,
            rollout_buffer_class=_NoBuffer,
            policy_kwargs={
                "features_extractor_class": BarExtractor,
                "features_extractor_kwargs": {
                    "network": settings.network,
                    "features": features.shape[1],
                    "window": settings.window,
                    "hidden": settings.hidden,
                },
                "net_arch": [],
                "optimizer_kwargs": {"eps": _ADAM_EPSILON},
            },
            seed=seed,
            device=device,
        )
        self.hyperparameters = settings
        self.stopped_early = False
        self.batch_env = env
        extractor = self.extractor
        extractor.encoder.fit_normalisation(features[env.episodes.start : env.episodes.stop])
        extractor.attach(features)
        self.features = features
        self.rollout = Rollout(
            settings.rollout_steps, env.num_envs, extractor.account_size, self.device
        )
        self.codes = EmbeddingCache(
            extractor.encode_distinct, len(features), settings.hidden, self.device
        )
        # Its own stream: what else draws from torch's global one must not change a training.
        self.random = torch.Generator(self.device).manual_seed(seed)
        self._checkpoint: Checkpoint | None = None
        self._reporter = Reporter()
        # Until an encoder that is to be frozen has learned, its codes are not to be kept.
        self._is_frozen = False
        self._has_forecast = False
        self.anchor: KlAnchor | None = None

    @property
    def extractor(self) -> BarExtractor:
        """Return the policy's extractor: encoder, mixing network, features."""
        extractor = self.policy.features_extractor
        assert isinstance(extractor, BarExtractor)  # noqa: S101 - built so above, tells mypy
        return extractor

    @property
    def encoder(self) -> Encoder:
        """Return the market encoder."""
        return self.extractor.encoder

    @property
    def head(self) -> Head:
        """Return the head: codes and account states to logits and values."""
        return Head(self.extractor.mix, self.policy.action_net, self.policy.value_net)

    def set_weights(self, state: dict[str, Tensor]) -> None:
        """Start from a policy's tensors, its normalisation among them; see export.load_weights."""
        self.policy.load_state_dict(state, strict=False)
        self.extractor.attach(self.features)
        self._has_forecast, self._is_frozen = True, False

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
        if checkpoint is not None and checkpoint.open(self, total_timesteps):
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

    def anchor_to_current_policy(self, weight: float) -> None:
        """Price it from now on to leave the policy as it is, by so many times the divergence."""
        episodes = self.batch_env.episodes
        stop = len(self.features) if episodes.stop is None else episodes.stop
        bars = range(episodes.start + self.hyperparameters.window - 1, stop)
        self.anchor = KlAnchor(self.encoder, self.head, self.extractor.rows, bars, weight)

    def forecast(self) -> None:
        """Teach the encoder to forecast now, where the settings say so, and not in `learn`."""
        self._forecast(0)

    def _forecast(self, total_timesteps: int) -> None:
        """Teach the encoder to forecast, unless it knows how, and keep its codes if it is frozen.

        Only rows of the episodes are looked at, as windows or as what comes after them.
        """
        settings, episodes = self.hyperparameters, self.batch_env.episodes
        stop = len(self.features) if episodes.stop is None else episodes.stop
        bars = range(episodes.start + settings.window - 1, stop)
        if settings.forecast_epochs and not self._has_forecast:
            self.policy.set_training_mode(True)
            targets = forecast_targets(self.batch_env.panel.slice(0, stop))
            forecaster = Forecaster(
                self.encoder,
                self.extractor.rows,
                torch.from_numpy(targets).to(self.device),
                bars[: -max(HORIZONS)],
                settings,
                self.seed or 0,
            )
            if self._checkpoint is not None:
                self._checkpoint.resume_forecast(forecaster)
            while not (forecaster.is_done or self._reporter.is_out_of_time()):
                loss = forecaster.run_epoch()
                self._reporter.forecast(
                    forecaster.epochs_done, settings.forecast_epochs, loss, total_timesteps
                )
                if self._checkpoint is not None:
                    self._checkpoint.save(self, forecaster)
            self._has_forecast = True
        if settings.freeze_encoder and not self._has_forecast:
            raise ValueError("an encoder that learned nothing is not to be frozen: forecast first")
        if settings.freeze_encoder and not self._is_frozen:
            self.encoder.requires_grad_(False)
            self.policy.set_training_mode(False)
            self.codes.clear()
            with torch.inference_mode():
                self.codes.fill(bars)
            self._is_frozen = True

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
            self._checkpoint.save_if_due(self)
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
        rollout, settings = self.rollout, self.hyperparameters
        bars = rollout.bars.view(-1)[rows]
        codes = self.codes.get(bars) if self._is_frozen else self.extractor.codes(bars)
        accounts = rollout.account_states.flatten(0, 1)[rows]
        logits, values = head(codes, accounts)
        all_log_probs = logits.log_softmax(dim=-1)
        actions = rollout.actions.view(-1)[rows]
        log_ratio = all_log_probs.gather(1, actions[:, None])[:, 0]
        log_ratio = log_ratio - rollout.log_probs.view(-1)[rows]
        ratio = log_ratio.exp()
        advantages = rollout.advantages.view(-1)[rows]
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clipped = ratio.clamp(1.0 - settings.clip, 1.0 + settings.clip)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        value_loss = functional.mse_loss(values, rollout.returns.view(-1)[rows])
        entropy = -(all_log_probs.exp() * all_log_probs).sum(dim=-1).mean()
        loss = policy_loss + settings.value_weight * value_loss - settings.entropy_weight * entropy
        if self.anchor is not None:
            loss = loss + self.anchor.penalty(bars, accounts, all_log_probs)
        with torch.no_grad():
            # Low in variance and never negative: http://joschu.net/blog/kl-approx.html
            approx_kl = (ratio - 1.0 - log_ratio).mean()
            clip_fraction = ((ratio - 1.0).abs() > settings.clip).float().mean()
        measures = [policy_loss, value_loss, entropy, approx_kl, clip_fraction]
        return loss, [each.detach() for each in measures]

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


def _require_fit(env: BatchEnv, features: Float32Array, settings: Hyperparameters) -> None:
    space = env.observation_space
    if not isinstance(space, spaces.Dict):
        raise ValueError("the environment shows rows; BarPPO needs one that shows bar numbers")
    bars = int(space["bar"].high[0]) + 1  # type: ignore[attr-defined]  # a Box, as built there
    checks = {
        "accounts": (env.num_envs, settings.accounts),
        "group": (env.group, settings.group),
        "window": (WINDOW, settings.window),
        "feature rows": (bars, len(features)),
    }
    for name, (wanted, found) in checks.items():
        if wanted != found:
            raise ValueError(f"{name}: the environment has {wanted}, BarPPO was given {found}")

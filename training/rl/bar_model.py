"""The model that BarPPO trains: its policy over bar numbers, and its state.

stable-baselines3's PPO with a policy whose extractor encodes bars, the rollout and the codes as
tensors on the device, and a state that goes into a checkpoint and comes out of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from torch import Tensor

from bots.decision.observation import WINDOW, Float32Array
from training.nets import Encoder
from training.nets.extractor import BarExtractor
from training.nets.head import Head
from training.rl.checkpoints import Checkpoint
from training.rl.embedding_cache import EmbeddingCache
from training.rl.env import BatchEnv
from training.rl.hyperparameters import Hyperparameters
from training.rl.kl_anchor import KlAnchor
from training.rl.progress import Reporter
from training.rl.rollout import Rollout
from training.rl.training_state import load_optimizer_state, optimizer_state, policy_weights

# As in the papers' code: torch's own 1e-8 lets tiny gradients make large steps.
_ADAM_EPSILON = 1e-5
# What counts a training's progress, ours and stable-baselines3's own.
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_has_forecast")


class _NoBuffer(RolloutBuffer):
    """Stand in for stable-baselines3's numpy buffer, which BarPPO does not use."""

    def reset(self) -> None:
        """Allocate nothing."""


class BarModel(PPO):
    """Hold a policy over the bars of one environment, and all that training it changes.

    features are the rows (T, F) that the environment's bars number. Raises ValueError where the
    environment, the features and the settings do not fit each other.
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
            seed=seed,
            device=device,
            **_ppo_arguments(settings, features.shape[1]),
        )
        self.hyperparameters, self.batch_env, self.features = settings, env, features
        self.stopped_early = False
        extractor = self.extractor
        extractor.encoder.fit_normalisation(features[env.episodes.start : env.episodes.stop])
        extractor.attach(features)
        self.rollout = Rollout(
            settings.rollout_steps, env.num_envs, extractor.account_size, self.device
        )
        self.codes = EmbeddingCache(
            extractor.encode_distinct, len(features), settings.hidden, self.device
        )
        # Its own stream: what else draws from torch's global one must not change a training.
        self.random = torch.Generator(self.device).manual_seed(seed)
        # Until an encoder that is to be frozen has learned, its codes are not to be kept.
        self._is_frozen = False
        self._has_forecast = False
        # Of a forecasting that was interrupted, until its forecaster is there to take it.
        self._forecaster_state: dict[str, Any] | None = None
        self.anchor: KlAnchor | None = None
        # Of the run of `learn`: where it saves its state, and whom it tells of its progress.
        self._checkpoint: Checkpoint | None = None
        self._reporter = Reporter()

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
        """Start from a policy's tensors by name, as `policy_weights` gives them.

        The normalisation is among them, and the features are normalised anew by it.
        """
        # Not strict: stable-baselines3's aliases of the one extractor are not in a file.
        self.policy.load_state_dict(state, strict=False)
        self.extractor.attach(self.features)
        self._has_forecast, self._is_frozen = True, False

    def training_state(self) -> dict[str, Any]:
        """Return all that a training needs to go on, as nested dicts of tensors and numbers.

        Policy, optimizer, random numbers, counters, the environment and what it showed last.
        """
        return {
            "policy": policy_weights(self.policy),
            "optimizer": optimizer_state(self.policy.optimizer),
            "random": self.random.get_state(),
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "env": self.batch_env.state_dict(),
            "observation": dict(self._last_obs) if isinstance(self._last_obs, dict) else {},
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `training_state`, of a model of the same settings and rows.

        What it holds of an interrupted forecasting waits for the forecaster. Raises ValueError
        where the environment's columns are others.
        """
        self.set_weights(state["policy"])
        load_optimizer_state(self.policy.optimizer, state.get("optimizer", {}))
        self.random.set_state(state["random"])
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])
        self.batch_env.load_state_dict(state["env"])
        self._forecaster_state = state.get("forecaster")
        if observation := state.get("observation"):
            self._last_obs = {name: np.array(each) for name, each in observation.items()}
            # stable-baselines3 wants it beside them; BarPPO's rollout does not look at it.
            self._last_episode_starts = np.ones(self.batch_env.num_envs, dtype=bool)


def _ppo_arguments(settings: Hyperparameters, feature_count: int) -> dict[str, Any]:
    """Return what stable-baselines3's PPO is built with, by its own names."""
    return {
        "learning_rate": settings.learning_rate_at,
        "n_steps": settings.rollout_steps,
        "batch_size": settings.batch_size,
        "n_epochs": settings.epochs,
        "gamma": settings.gamma,
        "gae_lambda": settings.gae_lambda,
        "clip_range": settings.clip,
        "ent_coef": settings.entropy_weight,
        "vf_coef": settings.value_weight,
        "max_grad_norm": settings.max_gradient_norm,
        "rollout_buffer_class": _NoBuffer,
        "policy_kwargs": {
            "features_extractor_class": BarExtractor,
            "features_extractor_kwargs": {
                "network": settings.network,
                "features": feature_count,
                "window": settings.window,
                "hidden": settings.hidden,
            },
            # The extractor mixes in the account; logits and value are linear on top of it.
            "net_arch": [],
            "optimizer_kwargs": {"eps": _ADAM_EPSILON},
        },
    }


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

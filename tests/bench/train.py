"""Steps a CPU second of training: stock PPO on stock blocks, BarPPO like for like, and as used.

Three things are told apart. `like_for_like_ratio` is BarPPO against stable-baselines3's PPO on the
same 8,192 steps, batches and epochs, without groups, without forecasting, nothing frozen: what the
shared encoder alone is worth. `product_ratio` is the transformer as the slots train it, forecasting
and the one pass that fills the codes included, against stock defaults (one environment, batches of
64, ten epochs, 512 steps timed). There `accounts_per_path` accounts share each path of bars, and
the bars are seen in another way: it is a ratio of steps, not of bars. `tft_over_mlp_cpu` is that
whole training against the MLP's. Stock runs see windows and pytorch-forecasting's own blocks.

Times are the best of two runs, by turns, so that a busy machine hits both. `*_encode_ms` is what a
bot pays for a bar's code in onnxruntime; `peak_mb` the memory of the process after the trainings.

Where there is a GPU, `gpu_*_steps_per_s` are the same trainings on it by the clock on the wall, the
networks warmed up by one rollout before; the founder's own figure was 55 to 170 steps a second.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnvWrapper
from torch import Tensor

from bots.decision.observation import ACCOUNT_SIZE, WINDOW, Float32Array, windows
from bots.modelstore.bundle import ENCODER, HEAD, OnnxPolicy
from tests.bench import _planted as planted
from tests.bench import learn
from training.nets.head import GatedResidualNetwork
from training.rl.barppo import BarPPO
from training.rl.env import BatchEnv, Episodes
from training.rl.hyperparameters import Hyperparameters
from training.rl.onnx_export import export_model

MARKET = ("hard", learn.CHOICE_MARKETS[0])
NETWORKS = ("mlp", "tft", "lstm")
REPEATS = 2
DEFAULT_STEPS = 512


def run() -> dict[str, float]:
    """Return the figures of issue 5 and what a code costs a bot."""
    torch.set_num_threads(1)
    market = planted.make_market(*MARKET)
    seconds: dict[str, float] = {}
    figures: dict[str, float] = {}
    for _ in range(REPEATS):
        for network in NETWORKS:
            began = time.process_time()
            model = learn.train(market, 0, network)
            taken = time.process_time() - began
            seconds[network] = min(taken, seconds.get(network, taken))
            assert isinstance(model, BarPPO)
            figures[f"{network}_encode_ms"] = _encode_ms(model, market)
    steps = float(model.num_timesteps)
    # Before the stock runs, which load pytorch-forecasting and lightning.
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    figures |= {f"{network}_steps_per_cpu_s": steps / seconds[network] for network in NETWORKS}
    figures["tft_over_mlp_cpu"] = seconds["tft"] / seconds["mlp"]
    figures["accounts_per_path"] = float(Hyperparameters.of("tft").group)
    alike = Hyperparameters(network="tft", segment_bars=16)
    stock, ours = _stock(market, alike), _rate(_bar_ppo(market, alike), alike.rollout_size)
    figures["stock_alike_steps_per_cpu_s"], figures["barppo_alike_steps_per_cpu_s"] = stock, ours
    figures["like_for_like_ratio"] = ours / stock
    default = _stock_default(market)
    figures["stock_default_steps_per_cpu_s"] = default
    figures["product_ratio"] = figures["tft_steps_per_cpu_s"] / default
    if torch.cuda.is_available():
        figures |= _on_gpu(market)
    return figures


def _on_gpu(market: planted.Market) -> dict[str, float]:
    """Return steps a second of wall time on the GPU: whole trainings, and stock PPO's defaults."""
    figures = {}
    for network in NETWORKS:
        learn.train(market, 0, network, device="cuda", timesteps=1)
        began = time.perf_counter()
        model = learn.train(market, 0, network, device="cuda")
        torch.cuda.synchronize()
        taken = time.perf_counter() - began
        figures[f"gpu_{network}_steps_per_s"] = model.num_timesteps / taken
    figures["gpu_stock_default_steps_per_s"] = _stock_default(market, "cuda", time.perf_counter)
    figures["gpu_product_ratio"] = (
        figures["gpu_tft_steps_per_s"] / figures["gpu_stock_default_steps_per_s"]
    )
    figures["gpu_peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    return figures


def _bar_ppo(market: planted.Market, settings: Hyperparameters) -> BarPPO:
    env = _env(market, settings.accounts, settings.group)
    return BarPPO(env, market.features, settings)


def _stock(market: planted.Market, settings: Hyperparameters) -> float:
    """Return the rate of stock PPO on the same steps, batches and epochs."""
    model = PPO(
        "MlpPolicy",
        _Windows(_env(market, settings.accounts, 1), market.features),
        learning_rate=settings.learning_rate,
        n_steps=settings.rollout_steps,
        batch_size=settings.batch_size,
        n_epochs=settings.epochs,
        policy_kwargs=_stock_network(),
        seed=0,
        device="cpu",
    )
    return _rate(model, settings.rollout_size)


def _stock_default(
    market: planted.Market,
    device: str = "cpu",
    timer: Callable[[], float] = time.process_time,
) -> float:
    """Return the rate of stock PPO as it comes, but for a shorter first rollout."""
    env = _Windows(_env(market, 1, 1), market.features)
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=DEFAULT_STEPS,
        policy_kwargs=_stock_network(),
        seed=0,
        device=device,
    )
    return _rate(model, DEFAULT_STEPS, timer)


def _env(market: planted.Market, accounts: int, group: int) -> BatchEnv:
    episodes = Episodes(planted.LIMIT_LOTS, stop=planted.TRAIN_STOP, exploring_starts=True)
    return BatchEnv(market.panel, market.features, episodes, accounts, group, seed=0)


def _stock_network() -> dict[str, Any]:
    extractor = {"features_extractor_class": _WindowExtractor, "net_arch": []}
    return extractor | {"features_extractor_kwargs": {"features": planted.FEATURES}}


def _rate(model: PPO, steps: int, timer: Callable[[], float] = time.process_time) -> float:
    began = timer()
    model.learn(steps)
    return model.num_timesteps / (timer() - began)


def _encode_ms(model: BarPPO, market: planted.Market) -> float:
    """Return the median CPU time of one window's code in onnxruntime, exported and in parity."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        export_model(model, place, market.features[: planted.TRAIN_STOP])
        policy = OnnxPolicy((place / ENCODER).read_bytes(), (place / HEAD).read_bytes())
    inputs = np.ascontiguousarray(windows(market.features)[-300:])
    taken = []
    for i in range(len(inputs)):
        began = time.process_time()
        policy.encode(inputs[i : i + 1])
        taken.append(time.process_time() - began)
    return 1_000.0 * float(np.median(taken))


class _Windows(VecEnvWrapper):
    """Show whole windows and the account in a row, (N, window * F + 4), as stock code does."""

    def __init__(self, env: BatchEnv, features: Float32Array) -> None:
        self._windows = windows(features)
        size = WINDOW * features.shape[1] + ACCOUNT_SIZE
        super().__init__(env, spaces.Box(-np.inf, np.inf, (size,), dtype=np.float32))

    def reset(self) -> Any:
        return self._shown(self.venv.reset())

    def step_wait(self) -> Any:
        observation, rewards, ends, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = self._shown(info["terminal_observation"])
        return self._shown(observation), rewards, ends, infos

    def _shown(self, observation: Any) -> Float32Array:
        bars, account = observation["bar"][..., 0], observation["account"]
        seen = self._windows[bars - (WINDOW - 1)].reshape(*bars.shape, -1)
        return np.concatenate((seen, account), axis=-1)


class _WindowExtractor(BaseFeaturesExtractor):
    """Encode windows by pytorch-forecasting's blocks and mix in the account."""

    def __init__(self, space: spaces.Box, features: int, hidden: int = 32) -> None:
        super().__init__(space, hidden)
        # It takes seconds to load, and only the stock runs need it.
        from tests.training.nets.reference import ReferenceTft

        self.encoder = ReferenceTft(features, WINDOW, hidden)
        self.mix = GatedResidualNetwork(hidden, context=ACCOUNT_SIZE)

    def forward(self, observations: Tensor) -> Tensor:
        seen, account = observations[:, :-ACCOUNT_SIZE], observations[:, -ACCOUNT_SIZE:]
        codes = self.encoder(seen.view(len(seen), WINDOW, -1))
        mixed: Tensor = self.mix(codes, account)
        return mixed

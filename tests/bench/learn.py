"""How much of a planted edge the policies learn: shares of an oracle's return on unseen bars.

The protocol: three fresh markets by three learner seeds
at two noise levels, about 100,000 steps each, judged on six spans of 3,890 bars they never saw. `s`
is the share of the oracle's log return, `e` that of the return expected from the planted state:
the same skill with less of the path's luck. Three markets without an edge must earn nothing. On
markets whose volatility changes, the transformer is trained with and without the differential
Sharpe term: `sharpe_term_gain` is what it adds to the share of the oracle's Sharpe ratio.

Market seeds 201 to 203 are for choosing settings, 101 to 103 and 301 to 303 for reporting alone.
The whole protocol takes half an hour of one core and spreads over those there are; one run of it:

    python -m tests.bench.learn --level hard --market 201 --seed 0 --policy tft --set epochs=2

Each run is printed as a line of JSON on standard error.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import MultiInputActorCriticPolicy

from tests.bench import _planted as planted
from training.nets.extractor import BarExtractor
from training.nets.head import Head
from training.rl.barppo import BarPPO
from training.rl.env import BatchEnv, Episodes
from training.rl.hyperparameters import Hyperparameters
from training.rl.reward import RewardSettings

REPORT_MARKETS, CHOICE_MARKETS, NULL_MARKETS = (101, 102, 103), (201, 202, 203), (301, 302, 303)
SEEDS = (0, 1, 2)
LEVELS = ("easy", "hard")
POLICIES = ("tft", "lstm", "mlp", "stock")
SHARPE_WEIGHTS = (0.0, 0.005)
"""Of the differential Sharpe term, without and with."""
TIMESTEPS = 102_400
_ENCODE_BARS = 1_024


def run() -> dict[str, float]:
    """Run the whole protocol and return the figures of issue 5."""
    reported = list(itertools.product(REPORT_MARKETS, SEEDS))
    asked = [
        (level, *each, policy, 0.0)
        for level, policy in itertools.product(LEVELS, ("tft", "mlp", "stock"))
        for each in reported
    ]
    asked += [("null", market, 0, "tft", 0.0) for market in NULL_MARKETS]
    asked += [("regimes", *each, "tft", weight) for weight in SHARPE_WEIGHTS for each in reported]
    # Fresh processes: one that has used torch's threads must not be forked.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=fresh) as pool:
        runs = list(pool.map(_run_asked, asked))
    found: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for (level, _, _, policy, weight), run in zip(asked, runs, strict=True):
        found.setdefault((level, policy, weight), []).append(run)
    return _figures(found)


def _run_asked(asked: tuple[str, int, int, str, float]) -> dict[str, Any]:
    level, market, seed, policy, weight = asked
    return run_one(level, market, seed, policy, weight)


def _figures(found: dict[tuple[str, str, float], list[dict[str, Any]]]) -> dict[str, float]:
    tft = [run for level in LEVELS for run in found[level, "tft", 0.0]]
    figures = {f"tft_{level}_median": _median(found[level, "tft", 0.0], "s") for level in LEVELS}
    figures["tft_worst"] = min(run["s"] for run in tft)
    for level in LEVELS:
        ours = found[level, "tft", 0.0]
        for other in ("mlp", "stock"):
            theirs = found[level, other, 0.0]
            figures[f"tft_minus_{other}_{level}"] = _mean_lead(ours, theirs, "e")
            figures[f"{other}_{level}_median"] = _median(theirs, "s")
        for yardstick in ("kalman", "ridge"):
            figures[f"{yardstick}_{level}_median"] = _median(ours, yardstick)
    figures["null_z_max"] = max(run["z"] for run in found["null", "tft", 0.0])
    without, with_term = (found["regimes", "tft", weight] for weight in SHARPE_WEIGHTS)
    figures["tft_regimes_median"] = _median(without, "s")
    figures["sharpe_term_gain"] = _mean_lead(with_term, without, "sharpe")
    figures["sharpe_term_drawdown_ratio"] = _median(with_term, "drawdown") / _median(
        without, "drawdown"
    )
    figures["cpu_s_per_run"] = float(np.median([run["cpu_s"] for run in tft]))
    return figures


def _mean_lead(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], name: str) -> float:
    return float(
        np.mean([one[name] - other[name] for one, other in zip(ours, theirs, strict=True)])
    )


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return float(np.median([run[name] for run in runs]))


def run_one(
    level: str,
    market_seed: int,
    seed: int,
    policy: str,
    sharpe_weight: float = 0.0,
    **changes: Any,
) -> dict[str, Any]:
    """Train one policy on one market and return its shares, turnover and CPU seconds.

    policy is "tft", "lstm", "mlp" or "stock" (stable-baselines3's own PPO with the MLP);
    sharpe_weight weighs the differential Sharpe term and changes are hyperparameters. Raises
    ValueError for settings that do not fit.
    """
    torch.set_num_threads(1)
    market, yardsticks = _market(level, market_seed)
    began = time.process_time()
    model = train(market, seed, policy, sharpe_weight, **changes)
    cpu_seconds = time.process_time() - began
    unseen = evaluate(model, market, planted.TEST_STARTS)
    found: dict[str, Any] = {
        "level": level,
        "market": market_seed,
        "seed": seed,
        "policy": policy,
        "sharpe_weight": sharpe_weight,
        **changes,
    }
    if level == "null":
        found["z"] = excess_z(market, unseen)
    else:
        best, trained = yardsticks["oracle"], yardsticks["trained"]
        seen = evaluate(model, market, planted.TRAIN_STARTS)
        found |= {
            "s": planted.share(unseen.log_return, best.log_return),
            "e": planted.share(unseen.expected_return, best.expected_return),
            "sharpe": planted.share(unseen.sharpe, best.sharpe),
            "train": planted.share(seen.log_return, trained.log_return),
            "spans": (unseen.log_return / best.log_return).round(2).tolist(),
            "kalman": planted.share(yardsticks["kalman"].log_return, best.log_return),
            "ridge": planted.share(yardsticks["ridge"].log_return, best.log_return),
        }
    found |= {
        "drawdown": float(np.median(unseen.drawdown)),
        "turnover": float(unseen.turnover.mean()),
        "cpu_s": cpu_seconds,
    }
    found = {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in found.items()
    }
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


@functools.cache
def _market(level: str, seed: int) -> tuple[planted.Market, dict[str, planted.Result]]:
    market = planted.make_market(level, seed)
    if level == "null":
        return market, {}
    return market, {
        "oracle": planted.oracle(market),
        "trained": planted.oracle(market, planted.TRAIN_STARTS),
        "kalman": planted.kalman(market),
        "ridge": planted.ridge(market),
    }


def train(
    market: planted.Market,
    seed: int,
    policy: str,
    sharpe_weight: float = 0.0,
    device: str = "cpu",
    timesteps: int = TIMESTEPS,
    **changes: Any,
) -> BarPPO | PPO:
    """Return a policy trained on the market's first 16,000 bars with its product settings."""
    network = "mlp" if policy == "stock" else policy
    settings = Hyperparameters.of(network, **changes)
    timesteps = -(-timesteps // settings.rollout_size) * settings.rollout_size
    episodes = Episodes(
        planted.LIMIT_LOTS,
        stop=planted.TRAIN_STOP,
        exploring_starts=True,
        reward=RewardSettings(sharpe_weight=sharpe_weight),
    )
    env = BatchEnv(market.panel, market.features, episodes, settings.accounts, settings.group, seed)
    if policy == "stock":
        return stock_ppo(env, market, settings, seed).learn(timesteps)
    return BarPPO(env, market.features, settings, seed=seed, device=device).learn(timesteps)


def stock_ppo(env: BatchEnv, market: planted.Market, settings: Hyperparameters, seed: int) -> PPO:
    """Return stable-baselines3's PPO with the same network, batches, epochs and rates."""
    model = PPO(
        MultiInputActorCriticPolicy,
        env,
        learning_rate=settings.learning_rate_at,
        n_steps=settings.rollout_steps,
        batch_size=settings.batch_size,
        n_epochs=settings.epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        ent_coef=settings.entropy_weight,
        max_grad_norm=settings.max_gradient_norm,
        policy_kwargs={
            "features_extractor_class": BarExtractor,
            "features_extractor_kwargs": {
                "network": settings.network,
                "features": market.features.shape[1],
                "window": settings.window,
                "hidden": settings.hidden,
            },
            "net_arch": [],
            "optimizer_kwargs": {"eps": 1e-5},
        },
        seed=seed,
        device="cpu",
    )
    extractor: Any = model.policy.features_extractor
    extractor.encoder.fit_normalisation(market.features[: planted.TRAIN_STOP])
    extractor.attach(market.features)
    return model


@torch.no_grad()
def evaluate(
    model: BarPPO | PPO, market: planted.Market, starts: tuple[int, ...]
) -> planted.Result:
    """Return what the likeliest actions earn, from each start on, flat at first."""
    policy, bars = model.policy, planted.SPAN_BARS - 2
    extractor: Any = policy.features_extractor
    head = Head(extractor.mix, policy.action_net, policy.value_net)
    under = torch.tensor(starts) + torch.arange(bars)[:, None]
    distinct = under.t().reshape(-1).to(policy.device)
    codes = torch.cat([extractor.encode_distinct(each) for each in distinct.split(_ENCODE_BARS)])
    codes = codes.view(len(starts), bars, -1).transpose(0, 1)
    env = BatchEnv(
        market.panel,
        market.features,
        Episodes(planted.LIMIT_LOTS, bars=bars),
        accounts=len(starts),
        stagger=False,
    )
    env.start_episodes(range(len(starts)), starts, [0] * len(starts))
    exposures = [env.lots / planted.LIMIT_LOTS]
    for code in codes:
        logits, _ = head(code, torch.from_numpy(env.account()).to(code.device))
        env.advance(logits.argmax(dim=1).cpu().numpy())
        exposures.append(env.lots / planted.LIMIT_LOTS)
    return planted.earned(market, np.stack(exposures), starts)


def excess_z(market: planted.Market, result: planted.Result) -> float:
    """Return by how many standard errors a result beats the better of flat and buy-and-hold."""
    held = planted.follow(market, lambda bars, _: np.ones(len(bars)))
    better = held.returns if held.returns.sum() > 0.0 else np.zeros_like(held.returns)
    excess = (result.returns - better).ravel()
    deviation = float(excess.std())
    return float(excess.mean() / deviation * np.sqrt(len(excess))) if deviation else 0.0


def main(arguments: list[str]) -> None:
    """Run one combination, or several, and print each as a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.learn")
    parser.add_argument("--level", choices=sorted(planted.LEVEL_SETTINGS), nargs="+", required=True)
    parser.add_argument("--market", type=int, nargs="+", default=[CHOICE_MARKETS[0]])
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--policy", choices=POLICIES, nargs="+", default=["tft"])
    parser.add_argument("--sharpe-weight", type=float, nargs="+", default=[0.0])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", dest="changes")
    options = parser.parse_args(arguments)
    changes = {
        name: json.loads(value) for name, _, value in (c.partition("=") for c in options.changes)
    }
    for level, market, seed, policy, weight in itertools.product(
        options.level, options.market, options.seed, options.policy, options.sharpe_weight
    ):
        run_one(level, market, seed, policy, weight, **changes)


if __name__ == "__main__":
    main(sys.argv[1:])

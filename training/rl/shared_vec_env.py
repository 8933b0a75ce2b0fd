"""stable-baselines3's interface of many environments, where all of them are one object."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env.base_vec_env import VecEnv


class SharedVecEnv(VecEnv):
    """Answer what VecEnv asks of single environments for accounts that share one."""

    def step_async(self, actions: npt.NDArray[np.int64]) -> None:
        """Take the actions (N,) of the next step."""
        self._actions = actions

    def close(self) -> None:
        """Do nothing: columns hold nothing open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute once for every account asked for: they share one environment."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: accounts share one environment."""
        raise NotImplementedError(f"set {attr_name} on the BatchEnv itself")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Refuse: accounts share one environment."""
        raise NotImplementedError(f"call {method_name} on the BatchEnv itself")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return that no account is wrapped on its own."""
        return [False] * len(list(self._get_indices(indices)))

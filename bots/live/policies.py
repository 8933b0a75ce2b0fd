"""The model that trades each slot now: loaded when it changes, and only after every check."""

import logging
import time
from dataclasses import dataclass

from bots.decision.engine import Policy
from bots.modelstore import bundle
from bots.modelstore import services as modelstore
from bots.modelstore.keys import BadKeys
from bots.modelstore.models import ModelVersion
from tradingsite import notices
from tradingsite.errors import Degraded
from tradingsite.registry import Bot, Slot

RETRY_SECONDS = (60.0, 300.0, 900.0, 3600.0)
"""Real time until a refused version is looked at once more: a disk answers again, files come back.

The last of them again and again.
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Hold one slot's policy in memory, with the version it came from."""

    version_id: int
    name: str
    policy: Policy
    sha256: str = ""
    """Of its manifest, which names every file of it."""


@dataclass(frozen=True, slots=True)
class _Refused:
    version_id: int
    times: int
    retry_at: float


class Policies:
    """Keep the policies of one bot's slots up to date with the model store."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._loaded: dict[str, Loaded] = {}
        self._refused: dict[str, _Refused] = {}

    def current(self, slot: Slot) -> Loaded | None:
        """Return the slot's policy, None before its first model.

        A new version that fails a check leaves the old policy in place and writes a notice; it is
        tried again later, for what was wrong may have been the machine.
        """
        kept = self._loaded.get(slot.slug)
        version = self._version(slot)
        if version is None:
            # After an import over generated bars there is no model any more.
            self._loaded.pop(slot.slug, None)
            return None
        if kept is not None and kept.version_id == version.pk:
            return kept
        refused = self._refused.get(slot.slug)
        if refused is not None and refused.version_id != version.pk:
            refused = None
        if refused is not None and time.monotonic() < refused.retry_at:
            return kept
        try:
            self._loaded[slot.slug] = self._load(slot, version)
        except (Degraded, BadKeys, OSError) as error:
            times = refused.times + 1 if refused is not None else 1
            pause = RETRY_SECONDS[min(times, len(RETRY_SECONDS)) - 1]
            self._refused[slot.slug] = _Refused(version.pk, times, time.monotonic() + pause)
            self._say_refused(version, kept, error, pause)
            return kept
        if self._refused.pop(slot.slug, None) is not None:
            notices.resolve(_key(version))
        log.info("%s: trades with %s from now on", slot.slug, version)
        return self._loaded[slot.slug]

    def _version(self, slot: Slot) -> ModelVersion | None:
        return modelstore.active(slot.slug)

    def _load(self, slot: Slot, version: ModelVersion) -> Loaded:
        manifest = modelstore.verify_version(version)
        if manifest.limit_lots != self._bot.limit_lots:
            raise Degraded(
                f"it was trained to hold up to {manifest.limit_lots} lots, the bot's limit is "
                f"{self._bot.limit_lots}: train it again"
            )
        policy = bundle.load(modelstore.folder(version), manifest)
        bundle.check(policy, manifest)
        return Loaded(version.pk, str(version), policy, version.manifest_sha256)

    def _say_refused(
        self, version: ModelVersion, kept: Loaded | None, error: Exception, pause: float
    ) -> None:
        goes_on = f"goes on with {kept.name}" if kept else "holds, as it has no other"
        notices.notify(
            "trading",
            "critical",
            _key(version),
            f"{version} cannot trade: {error}. The slot {goes_on}, and looks at it again in "
            f"{pause / 60:.0f} min. Roll back or train again: manage.py models",
        )


def _key(version: ModelVersion) -> str:
    return f"model:{version}"

"""The model that trades each slot now: loaded when it changes, and only after every check."""

import logging
from dataclasses import dataclass

from bots import bundle
from bots.engine import Policy
from bots.keys import BadKeys
from bots.modelstore import services as modelstore
from bots.modelstore.models import ModelVersion
from tradingsite import notices
from tradingsite.errors import Degraded
from tradingsite.registry import Bot, Slot

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Hold one slot's policy in memory, with the version it came from."""

    version_id: int
    name: str
    policy: Policy
    sha256: str = ""
    """Of its manifest, which names every file of it."""


class Policies:
    """Keep the policies of one bot's slots up to date with the model store."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._loaded: dict[str, Loaded] = {}
        self._refused: dict[str, int] = {}

    def current(self, slot: Slot) -> Loaded | None:
        """Return the slot's policy, None before its first model.

        A new version that fails a check leaves the old policy in place and writes a notice.
        """
        kept = self._loaded.get(slot.slug)
        version = self._version(slot)
        if version is None:
            # After an import over generated bars there is no model any more.
            self._loaded.pop(slot.slug, None)
            return None
        if kept is not None and kept.version_id == version.pk:
            return kept
        if self._refused.get(slot.slug) == version.pk:
            return kept
        try:
            self._loaded[slot.slug] = self._load(slot, version)
        except (Degraded, BadKeys, OSError) as error:
            self._refused[slot.slug] = version.pk
            self._say_refused(version, kept, error)
            return kept
        log.info("%s: trades with %s from now on", slot.slug, version)
        return self._loaded[slot.slug]

    def _version(self, slot: Slot) -> ModelVersion | None:
        return modelstore.active(slot.slug)

    def _load(self, slot: Slot, version: ModelVersion) -> Loaded:
        folder = modelstore.folder(version)
        manifest = modelstore.verify(folder, slot.slug)
        if manifest.limit_lots != self._bot.limit_lots:
            raise Degraded(
                f"it was trained to hold up to {manifest.limit_lots} lots, the bot's limit is "
                f"{self._bot.limit_lots}: train it again"
            )
        policy = bundle.load(folder, manifest)
        bundle.check(policy, manifest)
        return Loaded(version.pk, str(version), policy, version.manifest_sha256)

    def _say_refused(self, version: ModelVersion, kept: Loaded | None, error: Exception) -> None:
        goes_on = f"goes on with {kept.name}" if kept else "holds, as it has no other"
        notices.notify(
            "trading",
            "critical",
            f"model:{version}",
            f"{version} cannot trade: {error}. The slot {goes_on}. Roll back or train again: "
            f"manage.py models",
        )

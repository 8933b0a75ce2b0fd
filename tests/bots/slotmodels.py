"""A model that trades a slot: a real signed bundle in the store, made without torch."""

import datetime as dt
from pathlib import Path

import numpy as np

from bots.decision.observation import ACCOUNT_SIZE, WINDOW
from bots.modelstore import services as modelstore
from bots.modelstore.bundle import seal
from bots.modelstore.keys import generate_keys, load_private_key
from bots.modelstore.manifest import Golden, Normalisation, Span
from bots.modelstore.models import Activation, ModelVersion
from markets.domain.features import schema_for
from tests.bots.modelstore.bundles import (
    HEAD_WEIGHT,
    HIDDEN,
    draft_manifest,
    encoder_graph,
    write_graphs,
)
from tradingsite import clock
from tradingsite.registry import Slot

REFIT = Activation.Kind.REFIT


def activate_model(
    slot: Slot, scratch: Path, trained_from: dt.datetime, trained_until: dt.datetime
) -> ModelVersion:
    """Store and activate a model of random weights that says it was trained on a span."""
    private = scratch / "signing.pem"
    if not private.exists():
        generate_keys(private, modelstore.keys_folder())
    schema = schema_for(slot.market, slot.timeframe)
    weight = np.random.default_rng(5).normal(size=(len(schema.names), HIDDEN)).astype(np.float32)
    folder = scratch / f"incoming-{slot.slug}"
    write_graphs(folder, encoder=encoder_graph(weight))
    width = len(schema.names)
    manifest = draft_manifest(
        slot=slot.slug,
        bot=slot.bot,
        market=slot.market,
        timeframe=slot.timeframe,
        feature_names=schema.names,
        schema_hash=schema.hash,
        normalisation=Normalisation((0.0,) * width, (1.0,) * width, 5.0),
        training_span=Span(clock.epoch(trained_from), clock.epoch(trained_until), 1_000),
        golden=(_golden(weight),),
    )
    sealed = seal(folder, manifest, load_private_key(private))
    version = modelstore.add(folder, sealed, 1)
    modelstore.switch(version, REFIT, "a test", "newest")
    return version


def _golden(weight: np.ndarray) -> Golden:
    window = np.ones((WINDOW, len(weight)), dtype=np.float32)
    account = np.zeros(ACCOUNT_SIZE, dtype=np.float32)
    code = np.tanh(window.mean(axis=0) @ weight)
    logits = np.concatenate([code, account]) @ HEAD_WEIGHT
    rows = tuple(tuple(row) for row in window.tolist())
    return Golden(rows, *(tuple(each.tolist()) for each in (account, code, logits)))

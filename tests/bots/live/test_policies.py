"""Which model trades: switched at the next bar, and never for one that fails a check."""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings

from bots.decision.observation import ACCOUNT_SIZE, WINDOW
from bots.live import policies as live_policies
from bots.live.policies import Policies
from bots.modelstore import services as modelstore
from bots.modelstore.bundle import HEAD
from bots.modelstore.keys import generate_keys, load_private_key
from bots.modelstore.manifest import Golden, Manifest, Normalisation
from bots.modelstore.models import Activation, ModelVersion
from markets.domain import features
from markets.domain.features import schema_for
from tests.bots.modelstore import bundles
from tradingsite.models import Notice
from tradingsite.registry import BOTS, SLOTS

REFIT = Activation.Kind.REFIT
pytestmark = pytest.mark.django_db
SLOT = SLOTS["btc-1h"]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ed25519PrivateKey:
    monkeypatch.setattr(settings, "PROD_DIR", tmp_path / "prod")
    private = tmp_path / "private.pem"
    generate_keys(private, modelstore.keys_folder())
    return load_private_key(private)


def install(key: Ed25519PrivateKey, folder: Path, seed: int, limit_lots: int = 4) -> ModelVersion:
    """Put a small real bundle of the slot into the store and let it trade."""
    schema = schema_for(SLOT.market, SLOT.timeframe)
    width = len(schema.names)
    random = np.random.default_rng(seed)
    encoder = random.normal(size=(width, bundles.HIDDEN)).astype(np.float32)
    head = random.normal(size=(bundles.HIDDEN + ACCOUNT_SIZE, 7)).astype(np.float32)
    window = random.normal(size=(WINDOW, width)).astype(np.float32)
    account = random.uniform(-1, 1, ACCOUNT_SIZE).astype(np.float32)
    code = np.tanh(window.mean(axis=0) @ encoder)
    answers = (account, code, np.concatenate([code, account]) @ head)
    golden = Golden(
        tuple(tuple(row) for row in window.tolist()), *(tuple(each.tolist()) for each in answers)
    )
    made = folder / f"bundle-{seed}"
    bundles.write_graphs(made, bundles.encoder_graph(encoder), bundles.head_graph(head))
    manifest = bundles.seal(
        made,
        bundles.draft_manifest(
            slot=SLOT.slug,
            bot=SLOT.bot,
            market=SLOT.market,
            timeframe=SLOT.timeframe,
            feature_names=schema.names,
            schema_hash=schema.hash,
            normalisation=Normalisation((0.0,) * width, (1.0,) * width, 5.0),
            golden=(golden,),
            limit_lots=limit_lots,
        ),
        key,
    )
    version = modelstore.add(made, manifest, 1)
    modelstore.switch(version, REFIT, "a test")
    return version


def test_a_new_model_is_taken_up_and_the_same_one_loaded_once(
    key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    policies = Policies(BOTS["btc"])
    assert policies.current(SLOT) is None
    install(key, tmp_path, 1)
    first = policies.current(SLOT)
    assert first is not None
    assert policies.current(SLOT) is first
    install(key, tmp_path, 2)
    second = policies.current(SLOT)
    assert second is not None
    assert (first.name, second.name) == ("btc-1h v1", "btc-1h v2")
    ModelVersion.objects.update(state=ModelVersion.State.RETIRED)
    assert policies.current(SLOT) is None


def test_a_model_spoilt_after_its_activation_leaves_the_old_one_trading(
    key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    policies = Policies(BOTS["btc"])
    install(key, tmp_path, 1)
    old = policies.current(SLOT)
    broken = install(key, tmp_path, 2)
    path = modelstore.folder(broken) / HEAD
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    for _ in range(3):
        assert policies.current(SLOT) is old
    notice = Notice.objects.get(key="model:btc-1h v2")
    assert (notice.count, notice.severity) == (1, "critical")
    assert "goes on with btc-1h v1, and looks at it again in 1 min" in notice.text


def test_a_refused_version_is_tried_again_ever_more_seldom_and_taken_up_once_it_is_well(
    key: Ed25519PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(live_policies.time, "monotonic", lambda: now[0])
    version = install(key, tmp_path, 1)
    folder = modelstore.folder(version)
    folder.rename(tmp_path / "away")  # as on a disk that does not answer for a while
    policies = Policies(BOTS["btc"])
    tried: list[float] = []
    real = modelstore.verify_version

    def verify(each: ModelVersion) -> Manifest:
        tried.append(now[0])
        return real(each)

    monkeypatch.setattr(modelstore, "verify_version", verify)
    for _ in range(150):
        assert policies.current(SLOT) is None
        now[0] += 60.0
    assert [after - before for before, after in pairwise(tried)][:5] == [60, 300, 900, 3600, 3600]
    notice = Notice.objects.get()
    assert notice.count == len(tried) and notice.resolved_at is None
    (tmp_path / "away").rename(folder)
    now[0] += 3600.0
    found = policies.current(SLOT)
    assert found is not None and found.name == str(version)
    notice.refresh_from_db()
    assert notice.resolved_at is not None


def test_an_old_signed_bundle_in_a_new_versions_folder_does_not_trade(
    key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    policies = Policies(BOTS["btc"])
    old, new = install(key, tmp_path, 1), install(key, tmp_path, 2)
    assert old.manifest_sha256 != new.manifest_sha256
    shutil.rmtree(modelstore.folder(new))
    shutil.copytree(modelstore.folder(old), modelstore.folder(new))
    assert policies.current(SLOT) is None
    said = Notice.objects.get().text
    assert f"does not hold {new}" in said and old.manifest_sha256[:12] in said


def test_without_an_old_one_a_missing_folder_means_hold(
    key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    version = install(key, tmp_path, 1)
    shutil.rmtree(modelstore.folder(version))
    assert Policies(BOTS["btc"]).current(SLOT) is None
    assert "holds, as it has no other" in Notice.objects.get().text


def test_a_model_of_another_limit_does_not_trade(key: Ed25519PrivateKey, tmp_path: Path) -> None:
    install(key, tmp_path, 1, limit_lots=8)
    assert Policies(BOTS["btc"]).current(SLOT) is None
    assert "up to 8 lots, the bot's limit is 4" in Notice.objects.get().text


def test_a_model_of_features_that_have_changed_since_does_not_trade(
    key: Ed25519PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = install(key, tmp_path, 1)
    features.schema_for.cache_clear()
    monkeypatch.setattr(features, "VERSION", features.VERSION + 1)
    try:
        assert Policies(BOTS["btc"]).current(SLOT) is None
    finally:
        features.schema_for.cache_clear()
    said = Notice.objects.get().text
    assert f"{version} cannot trade" in said
    assert "the features have changed since, train again" in said

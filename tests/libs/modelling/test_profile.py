import json

import numpy as np
import pytest

from gyral.modelling.blocks import block_ids
from gyral.modelling.documents import DocumentError
from gyral.modelling.features import FeatureKind, FeatureSpec
from gyral.modelling.profile import (
    SCORE,
    BlockHistograms,
    BlockLoss,
    ReferenceProfile,
    block_losses,
)

HOUR_US = 3_600_000_000
FEATURES = [FeatureSpec("x", FeatureKind.NUMERIC), FeatureSpec("c", FeatureKind.CATEGORICAL)]


def a_profile(blocks=20):
    rng = np.random.default_rng(7)
    times = np.sort(rng.integers(0, blocks * HOUR_US, 50 * blocks))
    ids = block_ids(times, HOUR_US)
    columns = {
        "x": rng.normal(size=len(ids)),
        "c": np.array(["a", "b", None], dtype=object)[rng.integers(0, 3, len(ids))],
    }
    scores = rng.uniform(0.1, 0.9, len(ids))
    positive = rng.random(len(ids)) < scores
    return ReferenceProfile(
        model="flight-delay",
        run_id="run-1",
        cutoff_us=blocks * HOUR_US,
        block_us=HOUR_US,
        features=BlockHistograms.measure(columns, FEATURES, ids, HOUR_US, rng),
        scores=BlockHistograms.measure({"score": scores}, [SCORE], ids, HOUR_US, rng),
        block_losses=block_losses(ids, HOUR_US, positive, scores),
        seed=7,
    )


def test_a_profile_survives_json_byte_for_byte():
    profile = a_profile()
    text = profile.to_json()
    assert ReferenceProfile.from_json(text) == profile
    assert ReferenceProfile.from_json(text).to_json() == text
    spread = json.dumps(json.loads(text), indent=2).encode()
    assert ReferenceProfile.from_json(spread).to_json() == text


def test_every_row_is_counted_once_per_feature():
    profile = a_profile()
    assert profile.features.starts_us[1] == HOUR_US
    assert profile.features.totals.sum() == 2 * profile.scores.totals.sum() == 2000
    assert sum(block.rows for block in profile.block_losses) == 1000


def test_losses_are_means_of_their_block():
    ids = np.array([3, 3, 5])
    positive = np.array([True, False, True])
    [third, fifth] = block_losses(ids, HOUR_US, positive, np.array([0.5, 0.5, 0.25]))
    assert third == BlockLoss(3 * HOUR_US, 2, np.log(2), np.log(2))
    assert (fifth.start_us, fifth.rows) == (5 * HOUR_US, 1)
    assert fifth.log_loss == pytest.approx(np.log(4))
    assert fifth.entropy == pytest.approx(0.25 * np.log(4) + 0.75 * np.log(4 / 3))


def test_the_baseline_is_of_blocks_out_of_fold():
    profile = a_profile()
    losses = [block.log_loss for block in profile.block_losses]
    assert profile.baseline.mean == pytest.approx(np.mean(losses))
    assert profile.baseline.sd == pytest.approx(np.std(losses, ddof=1))


def test_a_window_unlike_the_reference_is_judged_so():
    features = a_profile().features
    strange = features.bins.count(
        {"x": np.full(50, 9.0), "c": np.array(["new"] * 50, dtype=object)}
    )
    assert features.judge(strange).drifted
    assert not features.judge(np.array(features.counts[3])).drifted


def test_one_block_gives_nothing_to_judge_by():
    profile = a_profile(blocks=1)
    assert profile.features.drift is None
    assert profile.features.judge(profile.features.totals) is None
    assert ReferenceProfile.from_json(profile.to_json()) == profile


def tampered(path, value):
    document = json.loads(a_profile().to_json())
    *parents, last = path
    place = document
    for key in parents:
        place = place[key]
    place[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("seed",), "7", r"Expected `int`, got `str` - at `\$.seed`"),
        (
            ("schema",),
            "gyral.profile/2",
            r"Invalid enum value 'gyral.profile/2' - at `\$.schema`",
        ),
        (("surprise",), 1, "unknown field `surprise`"),
        (("block_us",), 0, r"Expected `int` >= 1 - at `\$.block_us`"),
        (("block_losses", 2, "rows"), 0, r"`\$.block_losses\[2\].rows`"),
        (("features", "counts", 0, 0), -1, r"`\$.features.counts"),
        (
            ("features", "counts", 1),
            [1],
            r"counts: expected \d+ cells, found 1 - at `\$.features",
        ),
        (("scores", "starts_us"), [0], "counts: expected 1 blocks, found 20"),
        (("scores", "drift", "means"), [], r"drift.means: expected 1 features, found 0"),
        (("block_losses", 0, "log_loss"), None, "Expected `float`, got `null`"),
    ],
)
def test_a_tampered_profile_is_refused_by_field(path, value, message):
    with pytest.raises(DocumentError, match=f"^profile.json: .*{message}"):
        ReferenceProfile.from_json(tampered(path, value))


def test_what_is_no_json_is_refused():
    with pytest.raises(DocumentError, match=r"^profile.json: "):
        ReferenceProfile.from_json(b"\x80\x04pickle")

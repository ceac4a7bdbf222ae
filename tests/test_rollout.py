"""What a top model is asked to make: known frames come out as they are, others fit them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import FLOW, flow

from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.rollout import Rollout

KEPT = replace(FLOW, kept=True)
FORMS = {
    "anew": FLOW,
    "kept": KEPT,
    "one pass": replace(KEPT, renewed=True, sampling_steps=1),
}


def latents(b: int, t: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(b, t, *FLOW.latent_shape, generator=torch.Generator().manual_seed(seed))


def made(config: FlowConfig, rollout: Rollout) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    return torch.cat(list(flow(config=config).sample(rollout, generators)), dim=1)


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("places", [(0,), (21,), (2, 17, 18, 22), tuple(range(23))], ids=str)
def test_given_frames_come_out_as_they_are_and_others_of_their_block_fit_them(
    config: FlowConfig, places: tuple[int, ...]
) -> None:
    mask = torch.zeros(23, dtype=torch.bool)
    mask[list(places)] = True
    given = latents(2, len(places), seed=1)
    video = made(config, Rollout(23, given=given, mask=mask))
    torch.testing.assert_close(video[:, mask], given)
    free, first = made(config, Rollout(23)), places[0] // 4 * 4
    assert torch.equal(video[:, :first], free[:, :first])
    changed = (video != free).flatten(2).any(2).all(0)
    assert changed[first:].all()
    other = made(config, Rollout(23, given=given + 1, mask=mask))
    if len(places) < 23:
        assert not torch.equal(other[:, ~mask], video[:, ~mask])


def test_given_frames_are_known_after_a_past_as_well() -> None:
    mask, past = torch.arange(9) == 8, latents(2, 12)
    given = latents(2, 1, seed=1)
    video = made(KEPT, Rollout(9, past=past, given=given, mask=mask))
    torch.testing.assert_close(video[:, 8:], given)
    assert torch.equal(video[:, :8], made(KEPT, Rollout(9, past=past))[:, :8])


@pytest.mark.parametrize("first", [-4, 0, 3, 6, 8, 20])
def test_what_is_given_in_a_stretch(first: int) -> None:
    mask = torch.tensor([0, 1, 0, 1, 1, 0, 0, 1, 0]) > 0
    rollout = Rollout(9, given=latents(1, 4), mask=mask)
    places = [place for place in (1, 3, 4, 7) if first <= place < first + 4]
    found = rollout.given_in(first, 4)
    if not places:
        assert found is None
    else:
        assert found is not None
        assert (found[0].nonzero().flatten() + first).tolist() == places
        expected = latents(1, 4)[:, [(1, 3, 4, 7).index(place) for place in places]]
        assert torch.equal(found[1], expected)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_frames": 0}, "0 frames: expected 1 or more"),
        ({"past": latents(1, 0)}, "a past of no frames: expected 1 or more"),
        ({"given": latents(1, 1)}, "expected given frames and their mask, or neither"),
        (
            {"given": latents(1, 2), "mask": torch.arange(9) == 8},
            r"2 given frames, a mask of \(9,\) with 1: expected \(9,\) with as many",
        ),
        ({"given": latents(1, 8), "mask": torch.ones(8) > 0}, r"a mask of \(8,\) with 8: expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_made_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Rollout(**{"num_frames": 9, **settings})

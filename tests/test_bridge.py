"""Videos that lead to a known frame: between two clips, and round in a circle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from tiny_models import FLOW, flow
from torch import Tensor

from ldf_video.models.bridge import bridge, loop, stretch
from ldf_video.models.flow import FlowTop
from ldf_video.models.flow_config import FlowConfig
from ldf_video.models.rollout import Rollout

KEPT = replace(FLOW, kept=True)
FORMS = {
    "anew": FLOW,
    "kept": KEPT,
    "one pass": replace(KEPT, renewed=True, sampling_steps=1),
}


def latents(t: int, seed: int = 0) -> Tensor:
    return torch.randn(2, t, *FLOW.latent_shape, generator=torch.Generator().manual_seed(seed))


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(2)]


def between(config: FlowConfig, past: Tensor, goal: Tensor, count: int) -> Tensor:
    top = flow(config=config)
    return torch.cat(list(bridge(top, past, goal, count, generators())), dim=1)


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 12, 16])
def test_the_last_block_leads_to_the_goal_and_no_earlier_one_knows_it(
    config: FlowConfig, count: int
) -> None:
    past, goal = latents(14), latents(1, seed=1)
    video = between(config, past, goal, count)
    assert video.shape == (2, count, *FLOW.latent_shape)
    other = between(config, past, goal + 1, count)
    closing = min(count, FLOW.block - 1)  # the frames that share a block with the goal
    changed = (video != other).flatten(2).any(2).all(0)
    assert changed.tolist() == [False] * (count - closing) + [True] * closing
    assert not torch.equal(between(config, past + 1, goal, count)[:, 0], video[:, 0])


@pytest.mark.parametrize("count", [1, 5, 16])
def test_a_picture_is_a_past_that_stood_still(count: int) -> None:
    picture, goal = latents(1), latents(1, seed=1)
    known = -(count + 1) % FLOW.block  # frames that fill the first block
    still = picture.expand(-1, known + 1, -1, -1, -1)
    short, long = (between(KEPT, past, goal, count) for past in (picture, still))
    assert short.shape[1] == count
    torch.testing.assert_close(short, long)
    two = latents(2)
    older = two[:, :1].expand(-1, max(known - 1, 0), -1, -1, -1)
    short, long = (
        between(KEPT, past, goal, count) for past in (two, torch.cat([older, two], dim=1))
    )
    torch.testing.assert_close(short, long)


class Asked(FlowTop):
    """Keeps what it is asked for, and what it gave."""

    def sample(self, rollout: Rollout, generators: Sequence[torch.Generator]) -> Iterator[Tensor]:
        self.__dict__.setdefault("rollouts", []).append(rollout)
        for block in super().sample(rollout, generators):
            self.__dict__.setdefault("gave", []).append(block)
            yield block


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("count", [4, 5, 6, 7, 16, 33])
def test_the_last_block_of_a_loop_leads_to_its_first_frame(config: FlowConfig, count: int) -> None:
    top = Asked(config)
    top.load_state_dict(flow(config=config).state_dict())
    video = torch.cat(list(loop(top, count, generators())), dim=1)
    assert video.shape[1] == count
    rolled, closing = top.rollouts
    made = torch.cat(top.gave, dim=1)
    torch.testing.assert_close(made[:, -1], video[:, 0])  # where frame `count` would be
    assert torch.equal(made[:, -count - 1 : -1], video)
    assert made.shape[1] % FLOW.block == 0
    assert made.shape[1] - count - 1 >= FLOW.block  # no frame of it stands in a first block
    assert torch.equal(closing.given, video[:, :1])
    assert closing.mask.tolist() == [False, False, False, True]
    kept = min(FLOW.reach, rolled.num_frames)
    assert torch.equal(closing.past[:, -kept:], made[:, : rolled.num_frames][:, -kept:])


def test_a_loop_of_less_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="a loop of 3 frames: expected a block, 4, or more"):
        list(loop(flow(), 3, generators()))


def test_a_flow_that_makes_a_frame_at_a_time_leads_to_none() -> None:
    config = replace(FLOW, block=1)
    with pytest.raises(ValueError, match="blocks of 1 frame hold none"):
        between(config, latents(2), latents(1), 4)
    with pytest.raises(ValueError, match="blocks of 1 frame hold none"):
        list(loop(flow(config=config), 4, generators()))


@pytest.mark.parametrize(("first", "count"), [(0, 7), (3, 4), (2, 1), (4, 3), (1, 6), (6, 1)])
def test_a_stretch_of_a_video(first: int, count: int) -> None:
    video = torch.arange(7)[None]
    parts = list(stretch(iter(video.split(3, dim=1)), first, count))
    assert torch.cat(parts, dim=1).tolist() == [list(range(first, first + count))]
    assert all(part.shape[1] for part in parts)

"""The default top model: rectified flow over windows of latents, rolled forward to any length.

It is trained on what it meets when it is rolled forward: a clean or nearly clean past and a noisy
block after it (`flow_loss`). When it samples, it keeps the keys and values of the past and leads
the noisy block to data in a few passes, so that memory and time a frame do not depend on the length
of the video.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ldf_video.models.condition import Condition
from ldf_video.models.flow_layers import KeysValues
from ldf_video.models.flow_network import FlowNetwork
from ldf_video.models.rollout import Rollout
from ldf_video.models.solvers import integrate, renew
from ldf_video.models.steady_pass import SteadyBlock, SteadyPasses


class FlowTop(FlowNetwork):
    """Velocity network and sampler."""

    @torch.inference_mode()
    def sample(self, rollout: Rollout, generators: Sequence[torch.Generator]) -> Iterator[Tensor]:
        """Roll the flow forward, a block at a time; see `TopModel.sample`.

        The first frames of a longer video are those of a shorter one with the same generators.

        Yields:
            Latents (N, up to `block`, C, H, W), float32, `num_frames` of them in all.
        """
        self.check_stride(rollout)
        c, device = self.config, self.latent_mean.device
        past = self._known(rollout.past, len(generators))
        of_past = Condition.of(rollout.stride, device)
        if rollout.conditions is not None:
            of_past = of_past.of_unknown(past.shape[1], len(self.columns))
            if past.shape[1]:
                of_past = rollout.condition_in(-past.shape[1], past.shape[1], device)
        steady = SteadyPasses(self, of_past) if c.kept else None
        seen: KeysValues | None = None
        new = past.split(c.block, dim=1) if past.shape[1] else ()
        of_new = [of_past.frames(k * c.block, c.block) for k in range(len(new))]
        before = c.warm_up * c.block if rollout.past is None else 0
        for done in range(-before, rollout.num_frames, c.block):
            given = self._given(rollout, done)
            condition = rollout.condition_in(done, c.block, device)
            if not c.kept:
                seen = self.remember_window(past, of_past) if past.shape[1] else None
                tokens, _ = self._next_block(seen, condition, generators, given=given)
                past = torch.cat([past, tokens], dim=1)[:, -c.reach :]
                of_past = of_past.followed_by(condition, most=c.reach)
            else:
                for block, of_block in zip(new[:-1], of_new[:-1], strict=True):
                    seen = self.remember_block(block, seen, of_block)
                newest = (new[-1], of_new[-1]) if new else None
                tokens, seen = self._next_block(
                    seen, condition, generators, newest=newest, given=given, steady=steady
                )
                new, of_new = (tokens,), [condition]
            if done >= 0:
                yield self.restore(tokens[:, : rollout.num_frames - done])

    def _known(self, past: Tensor | None, n: int) -> Tensor:
        """What is known of the past, standardised (N, whole blocks, size): the newest frames."""
        c = self.config
        if past is None:
            return self.latent_mean.new_zeros((n, 0, math.prod(c.latent_shape)))
        tokens = self.standardise(past)
        if tokens.shape[1] < c.block:  # too short for a block: its first frame stood still before
            missing = c.block - tokens.shape[1]
            tokens = torch.cat([tokens[:, :1].expand(-1, missing, -1), tokens], dim=1)
        kept = min(tokens.shape[1] // c.block * c.block, c.window - c.block)
        return tokens[:, -kept:]

    def _given(self, rollout: Rollout, first: int) -> tuple[Tensor, Tensor] | None:
        """Which frames of the block from `first` on are given, (block,) bool; standardised."""
        found = rollout.given_in(first, self.config.block)
        if found is None:
            return None
        mask, latents = (x.to(self.latent_mean.device) for x in found)
        return mask, self.standardise(latents)

    def _next_block(
        self,
        seen: KeysValues | None,
        condition: Condition,
        generators: Sequence[torch.Generator],
        *,
        newest: tuple[Tensor, Condition] | None = None,
        given: tuple[Tensor, Tensor] | None = None,
        steady: SteadyPasses | None = None,
    ) -> tuple[Tensor, KeysValues | None]:
        """Make one block (N, block, size) from noise, after a past if there is one.

        Args:
            seen: keys and values of the past.
            condition: what the network is told of the video, and of the frames of this block.
            generators: sources of chance, one a video.
            newest: the block before and what it was told, where `seen` does not hold it yet.
            given: which of its frames are known, and those. A pass sees them as it sees the past.
            steady: gives the velocities where nothing is given and as much is seen as there is room
                for.

        Returns:
            The block, and keys and values of all that stands before it.
        """
        passes: SteadyBlock | None = None
        if newest is not None:
            block, of_block = newest
            if steady is not None and given is None and seen is not None and self.is_full(seen):
                passes = steady.after(block, seen, told=(of_block, condition))
            else:
                seen = self.remember_block(block, seen, of_block)

        def known(x: Tensor) -> Tensor:
            if given is None:
                return x
            mask, frames = given
            return x.masked_scatter(mask[:, None], frames.expand(len(x), -1, -1))

        def velocity(x: Tensor, level: float) -> Tensor:
            levels, x = x.new_full((1, 1), level), known(x)
            if given is not None:
                levels = torch.where(given[0], self.config.context_level, levels)
                levels = levels.expand(len(x), -1)
            return self.velocity(x, levels, condition=condition, past=seen)

        def noise() -> Tensor:
            shape = (1 + self.config.block, math.prod(self.config.latent_shape))
            e = torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators])
            return self.mixed(e[:, :1], e[:, 1:]).to(self.latent_mean.device)

        steps = self.config.first_steps if seen is None else self.config.sampling_steps
        levels = self.sampling_levels(steps)
        way = velocity if passes is None else passes
        x = renew(noise, levels, way) if self.config.renewed else integrate(noise(), levels, way)
        return known(x), seen if passes is None else passes.past

"""The scripts that measure the paper's claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

import covariance
import numpy as np
import pytest
import text
import torch

from ldf_video.errors import LdfError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", [covariance.Videos, covariance.OneFactor])
def test_samples_have_the_covariance_that_a_truth_says(kind: type[covariance.Truth]) -> None:
    rng = np.random.default_rng(0)
    truth = kind(32, 2.0, rng)
    found = np.cov(covariance.joint(truth, 40_000, rng).T, bias=True)
    assert covariance.error(found - 2 * np.eye(32), truth.covariance) < 0.03


@pytest.mark.parametrize("kind", [covariance.Videos, covariance.OneFactor])
def test_each_learner_comes_to_the_truth_with_many_samples(kind: type[covariance.Truth]) -> None:
    found = covariance.errors(kind, 32, 2.0, [4, 20_000], seeds=1)
    assert set(found) == {*covariance.LEARNERS, covariance.ONE_FRAME}
    for ((few, many),) in found.values():
        assert many < 0.02
        assert many < few


@pytest.mark.parametrize(
    ("medians", "expected"),
    [([1.0, 0.25], 2**0.5), ([0.4, 0.1], 1.0), ([2.0, 0.6], None), ([0.4, 0.8], None)],
)
def test_crossing_lies_where_the_error_is_one_half(
    medians: list[float], expected: float | None
) -> None:
    found = covariance.crossing([1, 2], [medians])
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_slope_leaves_out_what_may_be_less_than_the_first_number_that_was_tried() -> None:
    assert covariance.slope([1, 2, 4, 8], [1.0, 2.0, 8.0, 32.0], least=1) == pytest.approx(2)
    assert covariance.slope([1, 2, 4], [1.0, 2.0, 8.0], least=1) is None


def test_a_character_is_guessed_after_those_before_it() -> None:
    model = text.Characters(["abab"], 1, "abc")
    # After nothing: 2 a, 2 b of 4, beside 2 kinds that share a third each with what is unknown.
    alone = np.array([2 + 2 / 3, 2 + 2 / 3, 2 / 3]) / 6
    assert model.shares("") == pytest.approx(alone)
    assert model.shares("a") == pytest.approx((np.array([0, 2, 0]) + alone) / 3)
    assert model.shares("ca") == pytest.approx(model.shares("a"))
    assert model.bits(["ab"]) == pytest.approx(-np.log2([alone[0], model.shares("a")[1]]).mean())
    made = model.text(2_000, np.random.default_rng(0))
    assert made.count("ab") / made.count("a") == pytest.approx(model.shares("a")[1], abs=0.05)


def test_a_text_is_cut_into_parts_and_clips(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    paragraph = "a quick fox,  and\nthe lazy dog. " * 400
    path.write_text(f"{paragraph}\n\n{paragraph}\n \n{paragraph}x\u00e9", encoding="utf-8")
    whole = text.text_of(path)
    once_and_changed = " ".join(f"{paragraph}{paragraph}x".split())
    assert whole == f"{once_and_changed} "  # the second is the first, the last character is rare
    learned, held_out = text.parted(whole)
    assert ([len(learned), len(held_out)], len(whole) // text.PART) == ([4, 2], 6)
    assert held_out[0] == whole[2 * text.PART : 3 * text.PART]
    alphabet = "".join(sorted(set(whole)))
    clips = text.clips_of(learned, alphabet)
    assert clips.shape == (4 * (text.PART - 63), text.CLIP, text.CHUNK)
    assert "".join(alphabet[n] for n in clips[7].flat) == learned[0][7:71]
    with pytest.raises(LdfError, match="1,000 characters: expected 24,000 or more"):
        text.parted(whole[:1_000])


def test_characters_come_back_from_a_space_of_characters(tmp_path: Path) -> None:
    clips = text.clips_of(["hello world, " * 10], " ,dehlorw")
    options = text.parse([str(tmp_path), "--short"])
    space = text.space_of("characters", clips, " ,dehlorw", tmp_path, options)
    assert space.tokens.sum((1, 2, 3)).eq(text.CHUNK).all()
    found = space.decode(space.tokens[space.of_clips].flatten(0, 1))
    assert np.array_equal(found.reshape(clips.shape), clips)


def test_chunks_are_learned_as_few_numbers_and_texts_are_made_of_them(tmp_path: Path) -> None:
    alphabet = " ,dehlorw"
    clips = text.clips_of(["hello world, " * 10], alphabet)
    options = text.parse([str(tmp_path), "--minutes", "0.04", "--chunk-minutes", "0.03"])
    space = text.space_of("latents", clips, alphabet, tmp_path / "chunks", options)
    assert space.tokens.shape == (13, 8, 1, 1)
    found = space.decode(space.tokens[space.of_clips].flatten(0, 1)).reshape(clips.shape)
    assert (found == clips).mean() > 0.5  # by chance a seventh
    top, marks = text.train_flow(space, tmp_path / "flow", options)
    made = text.made(marks[-1].load(top), space, alphabet, count=3, chunks=20)
    assert {len(one) for one in made} == {20 * text.CHUNK}
    assert set("".join(made)) <= set(alphabet)
    assert not torch.equal(*(space.tokens[n] for n in (0, 1)))


def test_wrong_texts_and_budgets_are_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff\x00\xfe" * 100)
    for name in ("nowhere.txt", "bytes.txt", "."):
        with pytest.raises(LdfError, match=r"^--text .*; expected a file of text, in UTF-8"):
            text.text_of(tmp_path / name)
    for wrong, said in (
        (["--minutes", "0.01", "--chunk-minutes", "0.02"], "more than 0, and less than --minutes"),
        (["--minutes", "nan"], "more than 0, and less than --minutes"),
        (["--count", "0"], "--count 0: expected 1 or more"),
    ):
        with pytest.raises(SystemExit):
            text.parse([str(tmp_path), *wrong])
        assert said in capsys.readouterr().err

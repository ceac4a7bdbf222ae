"""publish: models -> a folder that stands alone, with a card, for a model hub or for a friend."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ldf_video.errors import UsageError
from ldf_video.models.frame import FrameModel
from ldf_video.models.top import TopModel
from ldf_video.options.sampling import Generate, Publish
from ldf_video.output import write_atomically
from ldf_video.progress import Progress
from ldf_video.recipes import card
from ldf_video.recipes.generate import generate
from ldf_video.recipes.info import Described, described_model
from ldf_video.runs import hub
from ldf_video.runs.command import check_folders, choose_device, out_of_memory, own_state
from ldf_video.runs.curve import SHEET
from ldf_video.runs.published import MARK, PublishedFolder, public_config
from ldf_video.runs.zoo import (
    OWN_TOP,
    Loaded,
    find_model,
    frame_model_of,
    load_frame_model,
    load_top_model,
    named,
)
from ldf_video.training import checkpoints
from ldf_video.training.ranks import check_alone

GENERATED, RECONSTRUCTED = "generated.png", "reconstructed.png"


@dataclass(frozen=True)
class Published:
    """What was published.

    Attributes:
        folder: with the models and their card.
        address: on the hub, where it was pushed.
    """

    folder: Path
    address: str | None = None


@own_state()
@out_of_memory("a machine that has more")
def publish(options: Publish) -> Published:
    """Make a folder of models that stands alone; see `ldf_video.api.publish`."""
    check_alone("publish")
    path = Path(options.out)
    check_folders([("DIR", path)], inputs=[])
    choose_device(options.device)  # for the sample
    folder = PublishedFolder(path)
    top, frame = _models(options)
    models: list[Loaded[Any]] = [frame] if top is None else [frame, top]
    figures = None
    if options.figures is not None:
        figures = card.Figures.load(Path(options.figures), models)
    with Progress("publish", unit="files", quiet=options.quiet) as progress:
        progress.say(f"publish: {' and '.join(named(m.directory) for m in models)} to {path}")
        abouts = [described_model(model.directory) for model in models]
        for model, about in zip(models, abouts, strict=True):
            _write_model(folder, model, about, decoder=frame)
        pictures = _write_pictures(folder, top, frame, options)
        said = card.Card(
            title=options.push or path.absolute().name,
            asked=options.push,
            models=list(zip(models, abouts, strict=True)),
            pictures=pictures,
            figures=figures,
            license=options.license,
        )
        text = said.text().encode()
        folder.write(hub.CARD, _writer(lambda part: part.write_bytes(text)))
        folder.finish()
        for name, aside in folder.kept_aside.items():
            progress.say(f"publish: {path / name} was changed since; as it was it is {aside}")
        if options.license is None:
            progress.say("publish: the card names no licence: give --license, such as mit")
        if options.push is None:
            return Published(path)
        progress.say(f"publish: {path} goes to {options.push}")
        return Published(path, hub.push(path, options.push, folder.files, mark=MARK))


def _models(options: Publish) -> tuple[Loaded[TopModel] | None, Loaded[FrameModel]]:
    """The models that are meant, on the CPU.

    Raises:
        UsageError: none is named, and there is no own one.
    """
    asked = options.top_model
    if asked is None and options.frame_model is not None:
        return None, load_frame_model(find_model(options.frame_model, "frame")[0], device="cpu")
    if asked is None and not (OWN_TOP / checkpoints.CONFIG).is_file():
        raise UsageError(
            f"publish: there is no {OWN_TOP}; name models by --top-model, or --frame-model alone"
        )
    top = load_top_model(find_model(asked, "top")[0], device="cpu")
    frame = frame_model_of(
        top.config, beside=top.directory, device="cpu", asked=options.frame_model
    )
    return top, frame


def _write_model(
    folder: PublishedFolder, model: Loaded[Any], about: Described, *, decoder: Loaded[Any]
) -> None:
    """Write a model with all that it needs to be used, and its config as others may see it."""
    kind = model.config["kind"]
    trained = dict(about.get("trained", {}))
    if "steps_done" in about:
        trained = {"steps": about["steps_done"], "minutes": about["minutes_trained"]}
    config = public_config(model.config, trained=trained)
    if kind == "top":
        wanted = model.config["frame_model"]["fingerprint"]
        config["frame_model"] = {"fingerprint": wanted, "path": "frame", "relative": "../frame"}
        if decoder.fingerprint != wanted:  # one that took over its E
            config["frame_model"]["decoder"] = decoder.fingerprint
    weights = checkpoints.load_weights(model.directory)
    folder.write(
        f"{kind}/{checkpoints.WEIGHTS}", lambda to: checkpoints.save_weights(to.parent, weights)
    )
    folder.write(
        f"{kind}/{checkpoints.CONFIG}", lambda to: checkpoints.save_config(to.parent, config)
    )


def _write_pictures(
    folder: PublishedFolder,
    top: Loaded[TopModel] | None,
    frame: Loaded[FrameModel],
    options: Publish,
) -> dict[str, str]:
    """Write what the models make, and what the runs left; returns the files with what they show.

    A frame model's sheet has frames of the clips in it: it is left out unless it is asked for.
    """
    pictures = {}
    if top is not None:
        sample = partial(
            Generate,
            num_videos=card.SAMPLE_VIDEOS,
            num_frames=top.model.fixed_frames or card.SAMPLE_FRAMES,
            seed=card.SAMPLE_SEED,
            upscale=card.sample_upscale(frame),
            top_model=folder.path / "top",
            device=options.device,
            quiet=True,
        )
        folder.write(card.SAMPLE, lambda to: generate(sample(to)))
        pictures[card.SAMPLE] = f"{card.SAMPLE_VIDEOS} generated videos, not chosen"
    sheets: list[tuple[Loaded[Any], str, str]] = []
    if top is not None:
        sheets += [(top, GENERATED, "Generated videos, a row each, at the end of the training")]
    if options.show_clips:
        sheets += [(frame, RECONSTRUCTED, "Real frames, as they come back, and frames from noise")]
    for model, name, said in sheets:
        if (sheet := model.directory / SHEET).is_file():
            folder.write(name, _writer(partial(shutil.copyfile, sheet)))
            pictures[name] = said
    return pictures


def _writer(fill: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda to: write_atomically(to, fill)

"""Which commands there are.

To add an option to a command, add a field and its line of help to its dataclass, and use it in the
recipe.
"""

from ldf_video.options.judging import Evaluate, Reconstruct
from ldf_video.options.option import Command, options_of
from ldf_video.options.reading import Encode, Info, Preview, Start
from ldf_video.options.sampling import Export, Generate, Interpolate, Play, Publish
from ldf_video.options.trainings import TrainFrame, TrainTop

OLD_NAMES = {"output": "out", "frames": "num_frames"}
"""What parameters were called before, or are on the command line; still taken by name."""

COMMANDS: dict[str, type[Command]] = {
    "start": Start,
    "preview": Preview,
    "train-frame": TrainFrame,
    "encode": Encode,
    "train-top": TrainTop,
    "generate": Generate,
    "interpolate": Interpolate,
    "play": Play,
    "export": Export,
    "publish": Publish,
    "reconstruct": Reconstruct,
    "evaluate": Evaluate,
    "info": Info,
}


def option_table(command: str) -> str:
    """A table of a command's options in Markdown; "all": of those that all commands share."""
    known = options_of(COMMANDS["train-frame" if command == "all" else command])
    rows = [
        option.row()
        for name, option in known.items()
        if (name in ("device", "quiet")) == (command == "all") and option.flags[0].startswith("-")
    ]
    return "\n".join(["| option | default | |", "|---|---|---|", *rows])

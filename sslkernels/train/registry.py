"""All methods by name, and the family that says what each learns from."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sslkernels.train import tasks
from sslkernels.train.methods import Method
from sslkernels.train.methods.barlow import BarlowTwins
from sslkernels.train.methods.bert import Bert
from sslkernels.train.methods.byol import BYOL
from sslkernels.train.methods.clip import CLIP
from sslkernels.train.methods.colourisation import Colourisation
from sslkernels.train.methods.distil import Distil
from sslkernels.train.methods.finetune import Finetune
from sslkernels.train.methods.gan import GAN
from sslkernels.train.methods.gpt import Gpt
from sslkernels.train.methods.jigsaw import Jigsaw
from sslkernels.train.methods.links import Links
from sslkernels.train.methods.mae import MAE
from sslkernels.train.methods.moco import MoCo
from sslkernels.train.methods.mocov3 import MoCoV3
from sslkernels.train.methods.rotation import Rotation
from sslkernels.train.methods.simclr import SimCLR
from sslkernels.train.methods.simsiam import SimSiam
from sslkernels.train.methods.supcon import SupCon
from sslkernels.train.methods.two_tower import TwoTower
from sslkernels.train.methods.vicreg import VICReg
from sslkernels.train.methods.wav2vec import Wav2vec
from sslkernels.train.options import (
    AudioOptions,
    ImageOptions,
    PairOptions,
    RunOptions,
    TextOptions,
)
from sslkernels.train.run import Task


@dataclass(frozen=True)
class Family:
    """Methods that learn from the same kind of data.

    options: the shared options; build: the task of a method, these options, and its own; smoke:
    what the options are in a run that is to take seconds.
    """

    options: type[RunOptions]
    build: Callable[[type[Any], Any, dict[str, Any]], Task[Any]]
    smoke: Mapping[str, Any]


IMAGES = Family(
    ImageOptions, tasks.image, {"epochs": 2, "batch_size": 64, "images": 256, "watch_every": 1}
)
TEXT = Family(
    TextOptions,
    tasks.text,
    {"epochs": 1, "megabytes": 0.05, "vocab_size": 320, "length": 32, "width": 32, "layers": 1},
)


AUDIO = Family(AudioOptions, tasks.audio, {"epochs": 1})
INTERACTIONS = Family(PairOptions, tasks.recommender, {"epochs": 2})
GRAPH = Family(PairOptions, tasks.graph, {"epochs": 2})


@dataclass(frozen=True)
class Entry:
    """A method on the command line."""

    name: str
    method: type[Method[Any]]
    family: Family

    @property
    def about(self) -> str:
        """What its module says: the title of the paper, authors, and the idea."""
        return inspect.getdoc(sys.modules[self.method.__module__]) or ""

    @property
    def own(self) -> dict[str, inspect.Parameter]:
        """Its own options: what its constructor takes by keyword alone, with annotations; where
        that hands others on (`**`), those of the next constructor, too."""
        found: dict[str, inspect.Parameter] = {}
        for kind in self.method.__mro__:
            if "__init__" not in vars(kind):
                continue
            hints = typing.get_type_hints(kind.__init__, include_extras=True)
            parameters = inspect.signature(kind.__init__).parameters
            for name, parameter in parameters.items():
                if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in found:
                    found[name] = parameter.replace(annotation=hints[name])
            if all(x.kind is not inspect.Parameter.VAR_KEYWORD for x in parameters.values()):
                break
        return found


METHODS = {
    entry.name: entry
    for entry in (
        Entry("simclr", SimCLR, IMAGES),
        Entry("moco", MoCo, IMAGES),
        Entry("mocov3", MoCoV3, IMAGES),
        Entry("byol", BYOL, IMAGES),
        Entry("simsiam", SimSiam, IMAGES),
        Entry("barlow", BarlowTwins, IMAGES),
        Entry("vicreg", VICReg, IMAGES),
        Entry("supcon", SupCon, IMAGES),
        Entry("clip", CLIP, IMAGES),
        Entry("rotation", Rotation, IMAGES),
        Entry("jigsaw", Jigsaw, IMAGES),
        Entry("colourisation", Colourisation, IMAGES),
        Entry("mae", MAE, IMAGES),
        Entry("gan", GAN, IMAGES),
        Entry("distil", Distil, IMAGES),
        Entry("finetune", Finetune, IMAGES),
        Entry("bert", Bert, TEXT),
        Entry("gpt", Gpt, TEXT),
        Entry("wav2vec", Wav2vec, AUDIO),
        Entry("two-tower", TwoTower, INTERACTIONS),
        Entry("links", Links, GRAPH),
    )
}

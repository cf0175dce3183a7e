"""TrainConfig: everything that decides what a training run does."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from midflow.errors import OptionError
from midflow.nets.config import IFNetConfig
from midflow.nets.ifnet import IFNet
from midflow.nets.pyramid import PyramidNet
from midflow.nets.pyramid_config import CELL, DEFAULT_CONFIG, PyramidConfig
from midflow.train.losses import LAPLACIAN_LEVELS

LAPLACIAN_UNIT = 2**LAPLACIAN_LEVELS
TrainableConfig = IFNetConfig | PyramidConfig
TrainableNet = IFNet | PyramidNet
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class LossWeights:
    """How much each loss of `objective` counts; 0 leaves it out, at no cost.

    Raises:
        OptionError: a weight is negative, or a share is not in [0, 1].
    """

    charbonnier: float = 1.0
    """Charbonnier distance of every level's blend to the true frame."""
    level_decay: float = 0.8
    """Each coarser level counts this much less than the one after it."""
    laplacian: float = 1.0
    """Laplacian loss of the final frame, its low-pass level included."""
    census: float = 0.5
    """Census distance of the final frame: structure whatever the brightness."""
    flow: float = 0.01
    """Robust end-point error to true flows where the pixel is visible; fades out, see `fade`."""
    flow_exponent: float = 0.4
    """Power of the end-point error: 0.4 forgives what is far off, 1 pulls it in."""
    mask: float = 0.02
    """Cross-entropy of the blend weight where exactly one frame sees the pixel."""
    motion: float = 1e-5
    """Mean length of the flows in pixels: nothing moves without a reason."""
    features: float = 0.0
    """Distance in the features of the network's own averaged encoder, in the last part."""
    features_start: float = 0.75
    """Share of the run after which `features` counts."""
    fade: float = 1.0
    """Share of the run over which `flow` falls linearly to 0; 0: it never falls."""
    teacher: float = 1.0
    """The privileged teacher's own picture; counts with `IFNetConfig.teacher` only."""
    distill: float = 0.01
    """Pull of the flows towards the teacher's; counts with `IFNetConfig.teacher` only."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value >= 0:
                raise OptionError(f"loss weights must be at least 0, got {name} = {value}")
        for name in ("level_decay", "flow_exponent", "features_start", "fade"):
            if getattr(self, name) > 1:
                raise OptionError(f"{name} must lie in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True)
class LearningRate:
    """Warm-up, hold, decay: linear from 0 to the peak, flat, then down to the floor.

    Raises:
        OptionError: a rate is negative or a share is not in [0, 1].
    """

    peak: float = 3e-4
    """Highest rate of AdamW."""
    kernels: float = 5e-3
    """Highest rate of the kernels under Muon; it rises and falls with the other."""
    floor: float = 3e-6
    """Rate at the end of the run."""
    warmup_steps: int = 500
    """Steps from 0 to the peak."""
    hold: float = 0.5
    """Share of the run, by steps or by time, after which the decay begins."""
    decay: Literal["cosine", "linear"] = "cosine"
    """Shape of the decay."""

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= self.peak or not 0 < self.peak < 1:
            raise OptionError(
                "rates must be 0 <= floor <= peak with a peak in (0, 1), "
                f"got {self.floor = }, {self.peak = }"
            )
        if not 0 < self.kernels < 1:
            raise OptionError(f"kernels must lie in (0, 1), got {self.kernels}")
        if self.warmup_steps < 0 or not 0 <= self.hold <= 1:
            raise OptionError(
                "warmup_steps must be at least 0 and hold lie in [0, 1], "
                f"got {self.warmup_steps = }, {self.hold = }"
            )
        if self.decay not in ("cosine", "linear"):
            raise OptionError(f"decay must be cosine or linear, got {self.decay!r}")


@dataclass(frozen=True)
class Stage:
    """Another crop and batch from some part of the run on.

    Raises:
        OptionError: the start is not in (0, 1).
    """

    start: float
    """Share of the run, by steps or by time, from which on it holds."""
    crop: int
    """Side of the square crops in pixels."""
    batch: int
    """Samples of a step, over all processes."""

    def __post_init__(self) -> None:
        if not 0 < self.start < 1:
            raise OptionError(f"a stage must start in (0, 1) of the run, got {self.start}")


@dataclass(frozen=True)
class TrainConfig:
    """A training run. Recipes make them; `dataclasses.replace` changes them.

    Raises:
        OptionError: where a value is out of range or values contradict each other.
    """

    folder: Path
    """Folder of the run: checkpoint, weights, log. A run found there is resumed."""
    network: TrainableConfig = DEFAULT_CONFIG
    """Architecture; `teacher=True` trains with the privileged teacher."""
    init: str = ""
    """Weights to start from: a file, folder or release; empty: random ones."""
    objective: Literal["deep", "paper"] = "deep"
    """The weighted losses of `LossWeights` | the paper's three Laplacian and distillation terms."""
    losses: LossWeights = field(default_factory=LossWeights)
    """Weights of the losses; of the paper's objective only `teacher` and `distill` are free."""
    steps: int | None = None
    """Length of the run in steps; None: by `seconds` alone."""
    seconds: float | None = None
    """Length of the run in seconds of training, resumed parts added up; None: by `steps` alone."""
    crop: int = 128
    """Side of the square crops in pixels."""
    batch: int = 16
    """Samples of a step, over all processes and accumulated parts."""
    stages: tuple[Stage, ...] = ()
    """Later crops and batches, in order."""
    accumulate: int = 1
    """Parts a process splits its samples of a step into, to save memory."""
    rate: LearningRate = field(default_factory=LearningRate)
    """Learning rate over the run."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the kernels inside the network, AdamW for everything else."""
    weight_decay: float = 1e-3
    """AdamW's, of the kernels of convolutions."""
    decay_everything: bool = False
    """Decay biases and gains as well, as the paper's code does."""
    clip: float = 1.0
    """Largest norm of the gradient; 0: as it comes."""
    ema: float = 0.999
    """Averaging of the weights, less over the first steps; 0: no averaging."""
    zero_heads: bool = True
    """Start fresh blocks with a last layer of zeros: step 0 is frame averaging."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the convolutions; flows, warps and losses are float32 under either."""
    channels_last: bool = True
    """Memory format of weights and pictures."""
    guide: bool = False
    """Give samples without known flows those of OpenCV's DIS search, see `guide`; for a CPU."""
    compile: bool = False
    """Run the network through torch.compile."""
    graphs: bool = True
    """Record a step once and play it as one CUDA graph; on one GPU, in one part, not compiled."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps; under torchrun each process takes its own GPU."""
    prefetch: int = 0
    """Batches made ahead by a thread while a step runs."""
    seed: int = 0
    """Of initial weights and samples."""
    checkpoint_minutes: float = 2.0
    """A checkpoint is written this often; 0: by `checkpoint_steps` alone."""
    checkpoint_steps: int = 0
    """And every so many steps; 0: by `checkpoint_minutes` alone."""
    log_every: int = 50
    """Steps between lines of the log and calls for progress."""
    validate_every: int = 1000
    """Steps between looks at the held-out triplets, if there are any."""
    patience: int = 50
    """Steps in a row that may be not finite (they are skipped) before the run stops."""
    tensorboard: bool = True
    """Write TensorBoard events where tensorboard is installed."""

    def __post_init__(self) -> None:
        self._check_length()
        self._check_sizes()
        self._check_teacher()
        if self.precision not in PRECISIONS:
            raise OptionError(f"precision must be one of {PRECISIONS}, got {self.precision!r}")
        if self.objective not in ("deep", "paper"):
            raise OptionError(f"objective must be deep or paper, got {self.objective!r}")
        if self.optimizer not in ("adamw", "muon"):
            raise OptionError(f"optimizer must be adamw or muon, got {self.optimizer!r}")
        if not 0 <= self.ema < 1:
            raise OptionError(f"ema must lie in [0, 1), got {self.ema}")

    def size_at(self, share: float) -> tuple[int, int]:
        """Crop and batch after `share` of the run."""
        size = self.crop, self.batch
        for stage in self.stages:
            if share >= stage.start:
                size = stage.crop, stage.batch
        return size

    def _check_length(self) -> None:
        if self.steps is None and self.seconds is None:
            raise OptionError("a run needs steps or seconds: set at least one")
        if any(length is not None and length <= 0 for length in (self.steps, self.seconds)):
            raise OptionError(f"a run must be longer, got {self.steps = }, {self.seconds = }")
        for name in ("checkpoint_minutes", "checkpoint_steps", "clip", "weight_decay", "prefetch"):
            if not getattr(self, name) >= 0:
                raise OptionError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("log_every", "validate_every", "patience", "accumulate"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not (self.checkpoint_minutes or self.checkpoint_steps):
            raise OptionError("checkpoint_minutes or checkpoint_steps must be above 0")

    def _check_sizes(self) -> None:
        starts = [stage.start for stage in self.stages]
        if starts != sorted(set(starts)):
            raise OptionError(f"stages must start one after the other, got {starts}")
        unit = max(_smallest_crop(self.network), LAPLACIAN_UNIT)
        for crop, batch in ((self.crop, self.batch), *((s.crop, s.batch) for s in self.stages)):
            if crop % unit or crop < 2 * LAPLACIAN_UNIT:
                raise OptionError(
                    f"crop must be a multiple of {unit}, at least {2 * LAPLACIAN_UNIT}, "
                    f"for this network and its losses, got {crop}"
                )
            if batch < 1 or batch % self.accumulate:
                raise OptionError(f"batch must be a multiple of {self.accumulate = }, got {batch}")

    def _check_teacher(self) -> None:
        network = self.network
        if isinstance(network, PyramidConfig):
            if self.objective == "paper":
                raise OptionError("the paper's objective needs a network of the RIFE layout")
            return
        if self.objective == "paper" and not network.teacher:
            raise OptionError("the paper's objective needs network.teacher = True")
        if self.losses.features and network.encoder == "none":
            raise OptionError("the feature loss needs a network with an encoder: set features to 0")
        if network.teacher and (network.resolution != 1 or network.features):
            raise OptionError(
                "a teacher needs a network that works at full resolution and carries no features, "
                f"got {network.resolution = }, {network.features = }"
            )


def _smallest_crop(network: TrainableConfig) -> int:
    """What sides of crops must be multiples of: every level is compared at its own size."""
    if isinstance(network, PyramidConfig):
        return CELL * max(network.scales)
    return network.pad_multiple


def as_values(config: TrainConfig) -> dict[str, Any]:
    """The configuration as JSON holds it: nested dictionaries, lists, numbers and text."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return values


def flat_values(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, keys joined by dots: {"rate.peak": 0.0003, ...}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = flat_values(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat.update({prefix + key: value} if inner is None else inner)
    return flat

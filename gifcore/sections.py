"""The sections of a study that every study has, each field with its limits and its words; no torch.

A field's title and description are what the page New study shows, and the only place they are
written; they are no part of a study's file or hash. `shown` says when a field counts at all.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from gifcore.change_section import Section, shown
from gifcore.group_section import GroupSection

SELECTORS: dict[str, str] = {
    "highest-k-gradients": "Units whose mean output gradient on the target data is largest",
    "highest-k-outputs": "Units whose mean output on the target data is largest",
    "lowest-k-gradients": "Units whose mean output gradient on the target data is smallest",
    "lowest-k-outputs": "Units whose mean output on the target data is smallest",
    "random": "Random single weights and biases of every layer",
    "exclusive-k-gradients": "Random units outside those with the largest mean output gradient",
    "exclusive-k-outputs": "Random units outside those with the largest mean output",
    "threshold": "Random weights of units whose mean output is above a falling threshold",
    "caps": "Whole blocks with the most target gradient for their Fisher on the retained data",
    "reverse-caps": (
        "Whole blocks with the least target gradient for their Fisher on the retained data"
    ),
    "highest-k-absolute-gradients": (
        "Units whose mean absolute output gradient on the target data is largest"
    ),
    "highest-k-absolute-outputs": "Units whose mean absolute output on the target data is largest",
    "lowest-k-absolute-gradients": (
        "Units whose mean absolute output gradient on the target data is smallest"
    ),
    "lowest-k-absolute-outputs": "Units whose mean absolute output on the target data is smallest",
    "highest-k-magnitude": "Units with the largest weights; uses no data",
    "lowest-k-magnitude": "Units with the smallest weights; uses no data",
    "highest-k-fisher": "Units with the largest diagonal Fisher information of the target data",
    "lowest-k-fisher": "Units with the smallest diagonal Fisher information of the target data",
    "all": "Every parameter of the chosen layers",
}

Selector = Literal[
    "highest-k-gradients",
    "highest-k-outputs",
    "lowest-k-gradients",
    "lowest-k-outputs",
    "random",
    "exclusive-k-gradients",
    "exclusive-k-outputs",
    "threshold",
    "caps",
    "reverse-caps",
    "highest-k-absolute-gradients",
    "highest-k-absolute-outputs",
    "lowest-k-absolute-gradients",
    "lowest-k-absolute-outputs",
    "highest-k-magnitude",
    "lowest-k-magnitude",
    "highest-k-fisher",
    "lowest-k-fisher",
    "all",
]
RankedTarget = Literal["loss", "logit", "margin", "probability"]
_STEPWISE = ("lsmr", "cg", "minres", "neumann", "p-lissa")  # solvers that stop at a tolerance


class DataSection(Section):
    """Which data."""

    source: str = Field(  # a registry name, or the path of an .npz file
        "fashion-mnist-mini",
        title="Data",
        description="What the model was trained on. Influence is computed on its training split.",
    )


class ModelSection(Section):
    """Which model, at which weights, trained with which weight decay."""

    name: str = Field(  # a name of the model registry
        "tinynet",
        title="Model",
        description="The architecture. Its weights come with GIF Studio, or you load them.",
    )
    weights: str | None = Field(  # None: the bundled one for this data
        None,
        title="Weights",
        description="A checkpoint of this architecture, trained on these data.",
    )
    weight_decay: float | None = Field(
        None,
        ge=0,
        title="Weight decay in training",
        description="The weight decay the model was trained with. Empty: what the checkpoint's "
        "card says, else 0.",
        json_schema_extra=shown(empty="what the checkpoint's card says, else 0"),
    )


class SelectionSection(Section):
    """Which parameters may move."""

    selector: Selector = Field(
        "highest-k-gradients",
        title="Selector",
        description="How the parameters are chosen that all methods but IF may move. Target data: "
        "the training images that the change touches; retained data: all others. A unit is an "
        "output channel or a neuron with its weights.",
    )
    ratio: float = Field(
        0.05,
        gt=0,
        le=1,
        title="Parameter ratio",
        description="Share of each layer's parameters that may move. What it comes to in this "
        "model is said below it.",
    )
    layers: tuple[str, ...] = Field(
        (),
        title="Only these layers",
        description="The selector looks at these layers alone. None chosen: all of the "
        "chosen kinds.",
        json_schema_extra=shown(empty="all of the chosen kinds"),
    )
    kinds: tuple[Literal["conv", "linear", "norm", "embedding"], ...] = Field(
        (),
        title="Only layers of these kinds",
        description="None chosen: convolutions and linear layers.",
        json_schema_extra=shown(empty="convolutions and linear layers", when={"layers": False}),
    )
    norms: bool = Field(
        False,
        title="Normalisation layers too",
        description="Each channel's weight and bias then count as one unit more.",
        json_schema_extra=shown(when={"layers": False}),
    )
    budget: Literal["layer", "global"] = Field(
        "layer",
        title="The ratio counts",
        description="In every layer for itself, as published; or in all layers together, whose "
        "units then compete.",
    )


class CurvatureSection(Section):
    """Which H, on how many samples, in how much memory."""

    kind: Literal["hessian", "ggn", "fisher", "block", "ekfac", "datainf"] = Field(
        "hessian",
        title="Curvature",
        description="Which matrix says how the loss bends around the trained model. It changes "
        "every method but Gradient, TracIn, DataInf and EK-FAC. Leave it at Hessian unless the "
        "certificate says that negative curvature was met, or you compare approximations.",
    )
    samples: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        512,
        title="Curvature samples",
        description="How many training images the curvature is averaged over. More is steadier "
        "and slower in proportion.",
    )
    sampler: Literal["uniform", "stratified", "features", "entropy"] = Field(
        "uniform",
        title="How they are drawn",
        description="Which training images the curvature is measured on. It matters for few "
        "samples; compare two seeds to see how much.",
    )
    draws: int = Field(
        1,
        ge=1,
        le=100,
        title="Draws of the samples",
        description="2 or more solve every update again on other curvature samples and say how "
        "far the updates differ, at the cost of as many solves.",
    )
    damping: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(  # H + damping I
        0.0,
        title="Damping",
        description="Adds damping × identity to the curvature: a solve is more stable and moves "
        "shorter; on an indefinite Hessian a small value can make things worse. Automatic measures "
        "the ends of the spectrum first, gives each method what it needs (a ridge for GIF), and "
        "says why in the certificate.",
    )
    batch_size: int = Field(
        128,
        ge=1,
        lt=2**31,
        title="Curvature batch",
        description="Training images in one mini-batch of a product with the curvature. It "
        "changes time and memory, not the answer.",
    )
    memory_mb: int = Field(
        512,
        ge=0,
        title="Memory for gradient graphs [MB]",
        description="Memory that may be spent on keeping gradient graphs between products; more "
        "is faster, up to a point. Too little is slower, never wrong.",
    )


class SolverSection(Section):
    """How the systems are solved."""

    kind: Literal["lsmr", "cg", "minres", "neumann", "p-lissa", "lissa", "dense"] = Field(
        "lsmr",
        title="Solver",
        description="How the equations are solved; it changes how near the answer comes and how "
        "long that takes, not the question. Leave it at LSMR unless you compare solvers.",
    )
    iterations: int = Field(
        20,
        ge=1,
        le=10_000,
        title="Iterations",
        description="Steps of the solver. More lowers the residual and takes longer in proportion. "
        "LiSSA needs about 5 / damp; fewer leave its answer too short.",
        json_schema_extra=shown(when={"kind": [*_STEPWISE, "lissa"]}),
    )
    tolerance: float = Field(
        1e-6, ge=0, title="Tolerance", json_schema_extra=shown(when={"kind": _STEPWISE}),
        description="The solver stops early once its relative (normal) residual is below this.",
    )  # fmt: skip
    ridge: float = Field(
        0.0,
        ge=0,
        title="Ridge (GIF)",
        description="GIF only: penalises large moves, ‖A x − b‖² + ridge ‖x‖². Raise it where "
        "GIF's move is too long.",
        json_schema_extra=shown(when={"kind": ["lsmr", "dense"]}),
    )
    preconditioner: Literal["jacobi", "kronecker", "none"] = Field(
        "jacobi",
        title="Preconditioner (GIF)",
        description="Scales the selected parameters by their curvature, so that few iterations "
        "go further. It also changes which solution an early stop gives.",
        json_schema_extra=shown(when={"kind": ["lsmr"]}),
    )
    probes: int | None = Field(  # None: min(8, products // 8), none below 4
        None,
        ge=1,
        le=10_000,
        title="Probes",
        description="Random vectors that measure the curvature for the preconditioner; each costs "
        "one product with it.",
        json_schema_extra=shown(
            empty="automatic", when={"kind": ["lsmr"], "preconditioner": ["jacobi"]}
        ),
    )
    batch_size: int = Field(  # B of lissa
        1,
        ge=1,
        lt=2**31,
        title="Batch size (B)",
        description="B: training images in the mini-batch of one step. More is steadier and "
        "slower.",
        json_schema_extra=shown(when={"kind": ["lissa"]}),
    )
    chains: int = Field(  # T of lissa
        1, ge=1, le=1000, title="Chains (T)", json_schema_extra=shown(when={"kind": ["lissa"]}),
        description="T: independent walks whose mean is taken. More is steadier and slower.",
    )  # fmt: skip
    damp: float = Field(
        5e-3,
        ge=0,
        lt=1,
        title="Damp",
        description="Times the scale it is the damping that LiSSA really has. Smaller needs more "
        "iterations: about 5 / damp.",
        json_schema_extra=shown(when={"kind": ["lissa"]}),
    )
    scale: float = Field(
        1e4,
        gt=0,
        title="Scale",
        description="Must be above half the largest curvature of a mini-batch, else the walk runs "
        "away. Its product with damp is the effective damping.",
        json_schema_extra=shown(when={"kind": ["lissa"]}),
    )


class RankingSection(Section):
    """Which test images, and groups of them, the training samples are ranked for."""

    queries: tuple[int, ...] = Field(
        (),
        title="Only these test images",
        description="Test images to explain: positions in the test split, separated by commas.",
        json_schema_extra=shown(empty="as many as asked for are chosen"),
    )
    count: int = Field(
        2,
        ge=0,
        le=1000,
        title="Test images to explain",
        description="How many test images to explain; half of them wrongly predicted, spread over "
        "the classes. More can be ranked later, one by one.",
        json_schema_extra=shown(when={"queries": False}),
    )
    batch_size: int = Field(
        256,
        ge=1,
        lt=2**31,
        title="Scoring batch",
        description="Training images scored at a time. It changes time and memory, not the answer.",
    )
    groups: tuple[GroupSection, ...] = Field(
        (),
        title="Groups of test images",
        description="Each is one question more: the mean over its images. One a line: `class 8`, "
        "`8 > 6` for images of class 8 that the model takes for 6, or positions such as "
        "`17, 256`; with a name of your own as in `Bags: class 8`.",
    )
    self_influence: bool = Field(
        False,
        title="Training images on themselves",
        description="How much each training image holds up the prediction on itself, by every "
        "method that ranks. High values are rare or wrongly labelled images.",
    )
    target: RankedTarget = Field(  # what of a query is explained (`gifcore.targets`)
        "loss",
        title="What of them is explained",
        description="What a score predicts the change of. Positive stays helpful, whatever is "
        "asked. Previews are of the loss alone.",
    )

    @field_validator("queries")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value) or any(q < 0 for q in value):
            raise ValueError("queries are distinct positions in the test split, 0 or more")
        return value

    @field_validator("groups")
    @classmethod
    def _named_apart(cls, value: tuple[GroupSection, ...]) -> tuple[GroupSection, ...]:
        if len({group.name for group in value}) != len(value):
            raise ValueError("each group has a name of its own")
        return value


class PreviewSection(Section):
    """Whether a sketch for approximate rankings of every test image is made."""

    rank: int = Field(
        0,
        ge=0,
        lt=2**31,
        title="Sketch for previews (0: none)",
        description="Numbers a training image in a sketch, from which the page Samples shows an "
        "approximate ranking of any test image at once. 384 is a good size; its recall is measured "
        "and shown. More is nearer to the exact ranking and takes longer.",
    )
    held_out: int = Field(
        8,
        ge=1,
        le=1000,
        title="Test images its recall is measured on",
        description="At least so many; where fewer are ranked, the rest costs exact solves.",
        json_schema_extra=shown(when={"rank": True}),
    )


class EditSection(Section):
    """Whether and how far the model is edited."""

    enabled: bool = Field(
        True,
        title="Edit the model",
        description="Off: only solve and rank; nothing is edited or evaluated, and the pages on "
        "before and after stay empty.",
    )
    min_scale: float = Field(
        0.1,
        gt=0,
        le=1,
        title="Smallest step",
        description="The step search looks between this and the largest step, as multiples of the "
        "natural one.",
        json_schema_extra=shown(when={"enabled": True}),
    )
    max_scale: float = Field(
        1000.0,
        gt=1,
        title="Largest step",
        description="The step search looks between the smallest step and this, as multiples of "
        "the natural one.",
        json_schema_extra=shown(when={"enabled": True}),
    )
    evaluations: int = Field(
        21,
        ge=6,
        le=1000,
        title="Steps tried",
        description="How many steps the search tries at most; each is one look at the validation "
        "split.",
        json_schema_extra=shown(when={"enabled": True}),
    )

"""The help of every option of a study, as the page New study shows it."""

HELP = {
    "model": "The architecture. Its weights come with GIF Studio, or you load them.",
    "data": "What the model was trained on. Influence is computed on its training split.",
    "label": "Every training image of this class is removed; the model is moved to forget it.",
    "selector": "How the parameters are chosen that GIF may move.",
    "ratio": "Share of each layer's parameters that may move; whole units round it.",
    "methods": "IF is the classic influence function on all parameters, GIF moves only the "
    "selected ones, Gradient is the control: one gradient step on the selected ones.",
    "samples": "How many training images the Hessian is averaged over. More is steadier and "
    "slower in proportion. 0 means all of them.",
    "iterations": "Steps of the solver. More lowers the residual and takes longer in proportion.",
    "tolerance": "The solver stops early once its relative (normal) residual is below this.",
    "damping": "Adds damping × identity to the Hessian. On an indefinite Hessian a small value "
    "can make things worse.",
    "ridge": "GIF only: penalises large moves, ‖A x − b‖² + ridge ‖x‖².",
    "preconditioner": "Scales the selected parameters by their curvature, so that few iterations "
    "go further. It also changes which solution an early stop gives.",
    "probes": "Random vectors that measure the curvature for the preconditioner; each costs one "
    "Hessian product. 0 lets the engine decide.",
    "queries": "Test images to explain: positions in the test split, separated by commas.",
    "count": "How many test images to explain; half of them wrongly predicted, spread over the "
    "classes. More can be ranked later, one by one.",
    "seed": "Fixes every random draw: curvature samples, probes, random selection.",
    "memory_mb": "Memory that may be spent on keeping gradient graphs between products; more is "
    "faster, up to a point. Too little is slower, never wrong.",
    "weight_decay": "The weight decay the model was trained with. Empty: what the checkpoint's "
    "card says, else 0.",
}

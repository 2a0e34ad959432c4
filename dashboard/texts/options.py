"""The words of every choice of a study: name -> (label, what it is and when to use it).

What an option itself is for is said by the config, beside the field (`gifcore.sections`).
"""

CURVATURES = {
    "hessian": (
        "Hessian",
        "The exact second derivatives of the loss, and the default. It can have negative "
        "directions where training has not settled.",
    ),
    "ggn": (
        "Gauss-Newton",
        "The Hessian without its negative directions, and somewhat cheaper. Take it for large "
        "models, or where the certificate says that negative curvature was met.",
    ),
    "fisher": (
        "Empirical Fisher",
        "Products of single gradients; never negative. Cheap, but rough where the model still "
        "makes mistakes.",
    ),
    "block": (
        "Hessian, layer by layer",
        "The Hessian without what passes between layers, at one product a layer. Shows how much "
        "that passage matters.",
    ),
    "ekfac": (
        "EK-FAC",
        "Kronecker factors of each layer, as used for very large models. A rough and quick "
        "picture; for comparisons with the method EK-FAC.",
    ),
    "datainf": (
        "DataInf",
        "The empirical Fisher of each layer by itself; for comparisons with the method DataInf.",
    ),
}
SAMPLERS = {
    "uniform": ("Uniform", "Every training image is as likely as any other; the default."),
    "stratified": (
        "Stratified by class",
        "Every class in proportion to its size. Take it for few samples or many classes.",
    ),
    "features": (
        "Spread over features",
        "From clusters of what the last layer sees, so that rare kinds of images are not missed. "
        "Costs one pass over the training set.",
    ),
    "entropy": (
        "Spread over uncertainty",
        "From sure to unsure predictions in proportion. Costs one pass over the training set.",
    ),
}
SOLVERS = {
    "lsmr": (
        "LSMR",
        "The default: GIF by LSMR, IF and the like by MINRES. Safe for every curvature.",
    ),
    "minres": (
        "MINRES",
        "IF and the like by MINRES; GIF by LSMR without a preconditioner. For comparisons.",
    ),
    "cg": (
        "CG",
        "IF and the like by conjugate gradients, which stop where the curvature is negative: take "
        "Gauss-Newton or Fisher with it, or damping. GIF by LSMR without a preconditioner.",
    ),
    "neumann": (
        "Neumann series",
        "The series of the GIF paper, for faithful comparison. It needs far more iterations.",
    ),
    "p-lissa": (
        "P-LiSSA",
        "GIF by small steps of a measured length, as in the later published code, for faithful "
        "comparison; IF and the like by MINRES.",
    ),
    "lissa": (
        "LiSSA",
        "A random walk over small batches, as FastIF takes it for IF. Cheap a step, needs many, "
        "and adds a damping of its own. GIF by LSMR without a preconditioner.",
    ),
    "dense": (
        "Dense (exact)",
        "Writes the matrix down and solves exactly: nothing is left over. For small models or few "
        "selected parameters, up to 2,000 unknowns.",
    ),
}
PRECONDITIONERS = {
    "jacobi": ("Jacobi", "One scale for each selected parameter, measured by random probes."),
    "kronecker": (
        "Kronecker",
        "Whole layers at once by EK-FAC. Often stronger; costs fitting EK-FAC, no probes.",
    ),
    "none": ("None", "The plain solver, for comparisons."),
}
RECIPES = {
    "sgd": (
        "As the weights were trained",
        "SGD with the settings and the number of epochs on the checkpoint's card, every seed with "
        "other starting weights and another order. What people mean by retraining.",
    ),
    "minimise": (
        "To the minimum",
        "Full-batch L-BFGS down to the minimum of the loss, for small models: no noise of an "
        "optimiser is left in the comparison.",
    ),
    "proximal": (
        "Proximal (PBRF)",
        "How this very model would respond: the loss on the changed data, held near the trained "
        "weights. For models whose training is far from a minimum.",
    ),
}
TARGETS = {
    "loss": ("Their loss", "What training lowers, in nats; the default."),
    "margin": (
        "Their margin",
        "How far the right class is ahead of all others, in log odds. It does not fade where the "
        "model is sure, as the loss does.",
    ),
    "logit": ("The output of their class", "The raw output, before softmax."),
    "probability": (
        "The probability of their class",
        "Easy to read; changes little where the model is sure.",
    ),
}
CHANGES = {
    "remove-class": (
        "Remove a class",
        "All training images of a class go; the model is moved to forget them.",
    ),
    "remove-samples": (
        "Remove single images",
        "These training images go; the model is moved until they are like images it never saw.",
    ),
    "relabel": (
        "Correct labels",
        "These training images get another label; the model is moved to learn it.",
    ),
    "reweight": (
        "Weigh images anew",
        "These training images count more or less than the others; nothing goes, nothing comes.",
    ),
    "add-samples": (
        "Add images",
        "Images of another data set join the training set; the model is moved to learn them.",
    ),
    "union": (
        "Several changes at once",
        "All of them together, each said of the training set before any of them.",
    ),
    "backdoor": (
        "Take back a backdoor",
        "Some training images bear a trigger and a false label, and so were the weights trained; "
        "the images get their labels back.",
    ),
}

BUDGETS = {
    "layer": ("In each layer", "Every layer gives the same share of its own parameters."),
    "global": ("In all together", "The units of all layers compete for one share."),
}
KINDS = {
    "conv": ("Convolutions", ""),
    "linear": ("Linear", ""),
    "norm": ("Normalisation", ""),
    "embedding": ("Embeddings", ""),
}
STARTS = {"cold": ("Cold", "From new weights."), "warm": ("Warm", "From the trained weights.")}
INDEXES = {
    "Flat": ("Flat", "Exact; every image is compared."),
    "IVF": ("IVF", "Looks only into the nearest cells; for very many images."),
    "HNSW": ("HNSW", "Walks a graph of neighbours; for very many images."),
}

CHOICES: dict[str, dict[str, tuple[str, str]]] = {  # by the path of the field
    "curvature.kind": CURVATURES,
    "curvature.sampler": SAMPLERS,
    "solver.kind": SOLVERS,
    "solver.preconditioner": PRECONDITIONERS,
    "retrain.recipe": RECIPES,
    "retrain.start": STARTS,
    "ranking.target": TARGETS,
    "selection.budget": BUDGETS,
    "selection.kinds": KINDS,
    "fastif.index": INDEXES,
}

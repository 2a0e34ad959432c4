"""The help of every option of a study, as the page New study shows it.

The choices are name -> (label, what it is and when to use it).
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
    "backdoor": (
        "Take back a backdoor",
        "Some training images bear a trigger and a false label, and so were the weights trained; "
        "the images get their labels back.",
    ),
}

HELP = {
    "change": "What becomes of the training set. Study files know more: other weights, samples "
    "added, and several changes at once.",
    "change_samples": "Positions in the training split, separated by commas; the pages of a study "
    "show them under the images.",
    "backdoor_count": "Drawn at random from all classes. Must be what the weights were trained on.",
    "backdoor_size": "A checkerboard in the top left corner, or over the whole image. Must be what "
    "the weights were trained on.",
    "backdoor_strength": "What the trigger adds, as a share of the range from black to white. Must "
    "be what the weights were trained on.",
    "backdoor_seed": "Of the draw of the images. Must be what the weights were trained on.",
    "draws": "2 or more solve every update again on other curvature samples and say how far the "
    "updates differ, at the cost of as many solves.",
    "model": "The architecture. Its weights come with GIF Studio, or you load them.",
    "data": "What the model was trained on. Influence is computed on its training split.",
    "label": "The class that is forgotten, the new label, or the class the trigger stands for.",
    "selector": "How the parameters are chosen that all methods but IF may move. Target data: the "
    "training images that the change touches; retained data: all others. A unit is an output "
    "channel or a neuron with its weights.",
    "ratio": "Share of each layer's parameters that may move; whole units round it.",
    "methods": "IF moves all parameters, every other method only the selected ones. Each method "
    "is solved, ranked and tried on the model; TracIn, DataInf, EK-FAC and Gradient cost least.",
    "kind": "Which matrix says how the loss bends around the trained model. It changes every "
    "method but Gradient, TracIn, DataInf and EK-FAC. Leave it at Hessian unless the certificate "
    "says that negative curvature was met, or you compare approximations.",
    "sampler": "Which training images the curvature is measured on. It matters for few samples; "
    "compare two seeds to see how much.",
    "samples": "How many training images the curvature is averaged over. More is steadier and "
    "slower in proportion. 0 means all of them.",
    "iterations": "Steps of the solver. More lowers the residual and takes longer in proportion.",
    "tolerance": "The solver stops early once its relative (normal) residual is below this.",
    "solver": "How the equations are solved; it changes how near the answer comes and how long "
    "that takes, not the question. Leave it at LSMR unless you compare solvers.",
    "damping_way": "Damping makes a solve stable and moves shorter. Automatic measures the ends "
    "of the spectrum first, gives each method what it needs (a ridge for GIF), and says why in the "
    "certificate. By hand: 0 is none.",
    "damping": "Adds damping × identity to the curvature. On an indefinite Hessian a small value "
    "can make things worse.",
    "ridge": "GIF only: penalises large moves, ‖A x − b‖² + ridge ‖x‖². Raise it where GIF's move "
    "is too long.",
    "batch_size": "B: training images in the mini-batch of one step. More is steadier and slower.",
    "chains": "T: independent walks whose mean is taken. More is steadier and slower.",
    "damp": "Times the scale it is the damping that LiSSA really has. Smaller needs more "
    "iterations: about 5 / damp.",
    "scale": "Must be above half the largest curvature of a mini-batch, else the walk runs away. "
    "Its product with damp is the effective damping.",
    "lissa_iterations": "J: steps of each walk. About 5 / damp are needed; fewer leave the answer "
    "too short.",
    "preconditioner": "Scales the selected parameters by their curvature, so that few iterations "
    "go further. It also changes which solution an early stop gives.",
    "probes": "Random vectors that measure the curvature for the preconditioner; each costs one "
    "Hessian product. 0 lets the engine decide.",
    "queries": "Test images to explain: positions in the test split, separated by commas.",
    "groups": "One question about all test images of a class: the mean over them. Numbers of "
    "classes, separated by commas.",
    "group_cells": "One question about the test images of a class that the model takes for another "
    "one: label > prediction, by number. Separate several by commas.",
    "group_images": "One question about these test images together. Separate several groups by "
    "semicolons.",
    "target": "What a score predicts the change of. Positive stays helpful, whatever is asked. "
    "Previews are of the loss alone.",
    "self_influence": "How much each training image holds up the prediction on itself, by every "
    "method that ranks. High values are rare or wrongly labelled images.",
    "count": "How many test images to explain; half of them wrongly predicted, spread over the "
    "classes. More can be ranked later, one by one.",
    "preview": "Numbers a training image in a sketch, from which the page Samples shows an "
    "approximate ranking of any test image at once. 384 is a good size; its recall is measured and "
    "shown. More is nearer to the exact ranking and takes longer. 0 makes none.",
    "fastif_k": "Numbers of nearest training images, separated by commas. The page Speed and "
    "recall then shows how much of the exact ranking they keep and what they save. Takes as many "
    "more solves and sweeps over the training images.",
    "fastif_iterations": "Solves that are to be taken as exact should converge: raise this if the "
    "page says that they did not.",
    "fastif_preview": "A sketch made only to be compared with the candidates; 64 to 384.",
    "fastif_lissa": "FastIF's own solver, compared with the exact solves and with the gradient "
    "alone. Study files know several configurations and processes.",
    "relabel_each": "Where the images get different labels: class numbers in the order of the "
    "positions, separated by commas. The page Wrong labels fills them in.",
    "mislabel": "Wrong labels that were planted before the training must be what the weights were "
    "trained with (`python -m gifcore train --noise …`); then it can be measured how well they are "
    "found.",
    "mislabel_rate": "Must be what the weights were trained with.",
    "mislabel_seed": "Of the draw of the images and of their labels. Must be what the weights were "
    "trained with.",
    "mislabel_folds": "So many models are trained, each without one part of the training images; "
    "confident learning then judges every image by a model that never saw it. Takes as long as so "
    "many trainings.",
    "mislabel_look": "The page Wrong labels then lists the training images to inspect first, by "
    "every method that ranks and by the model's own probabilities. Takes the influence of all "
    "training images on themselves.",
    "seed": "Fixes every random draw: curvature samples, probes, random selection.",
    "retrain": "So many models are really trained on the changed data, with the seeds 1, 2, …, and "
    "the edits are held against them. Each takes about as long as training the model did; they are "
    "kept, and other studies of the same change find them.",
    "retrain_recipe": "What the edits are held against. Proximal and warm minimising draw nothing "
    "at random, so there is one model.",
    "retrain_start": "Cold: from new weights. Warm: from the trained ones, nearer to them and "
    "cheaper, and perhaps with a trace of what was to be forgotten.",
    "retrain_epochs": "Fewer are quicker, and no longer what the weights were trained with: the "
    "verdict says so if accuracy suffers.",
    "memory_mb": "Memory that may be spent on keeping gradient graphs between products; more is "
    "faster, up to a point. Too little is slower, never wrong.",
    "weight_decay": "The weight decay the model was trained with. Empty: what the checkpoint's "
    "card says, else 0.",
}

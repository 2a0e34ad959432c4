"""Train the bundled checkpoints again, on one thread, so that the weights come out the same.

Run from the top of the checkout: python assets/models/make_models.py [MODEL-DATA …]

Weight decay is larger than usual (5e-3 for tinynet) so that the lowest validation loss falls at the
end of the schedule: the weights are then near a stationary point, as influence functions assume.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gifcore.data import load  # noqa: E402 - the checkout must be on the path first
from gifcore.data.backdoor import Backdoor  # noqa: E402
from gifcore.data.noise import Noise  # noqa: E402
from gifcore.training import Settings, train_with  # noqa: E402

HERE = Path(__file__).parent
BUNDLED = {
    ("tinynet", "fashion-mnist-mini"): Settings(batch_size=64, weight_decay=5e-3, patience=10),
    ("logistic", "digits"): Settings(epochs=300, lr=0.2, weight_decay=1e-3, patience=300),
    ("fcn", "digits"): Settings(epochs=100, lr=0.1, weight_decay=1e-3, patience=100),
}
# with a backdoor, for assets/studies/backdoor.toml; the name ends with "-backdoor"
POISONED = {("fcn", "digits"): Backdoor(label=4, count=100, strength=0.25)}
# with wrong labels, for assets/studies/wrong-labels.toml; the name ends with "-noise"
MISLABELLED = {("fcn", "digits"): Noise(0.1, seed=0)}
KEPT = 6  # checkpoints of that training, for tracin; those after the best epoch are dropped


def main() -> None:
    """Train all of them, or those named on the command line."""
    torch.set_num_threads(1)
    for (model, data), settings in BUNDLED.items():
        name = f"{model}-{data}"
        if not sys.argv[1:] or name in sys.argv[1:]:
            result = train_with(load(data), model, settings, out=HERE / name)
            sys.stdout.write(f"{name}: {result.accuracy}, {result.seconds:.0f} s\n")
    for (model, data), backdoor in POISONED.items():
        name, settings = f"{model}-{data}-backdoor", BUNDLED[model, data]
        if not sys.argv[1:] or name in sys.argv[1:]:
            result = train_with(load(data), model, settings, backdoor=backdoor, out=HERE / name)
            sys.stdout.write(f"{name}: {result.accuracy}, {result.seconds:.0f} s\n")
    for (model, data), noise in MISLABELLED.items():
        name, settings = f"{model}-{data}-noise", replace(BUNDLED[model, data], checkpoints=KEPT)
        if not sys.argv[1:] or name in sys.argv[1:]:
            result = train_with(load(data), model, settings, noise=noise, out=HERE / name)
            sys.stdout.write(f"{name}: {result.accuracy}, {result.seconds:.0f} s\n")


if __name__ == "__main__":
    main()

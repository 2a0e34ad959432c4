"""Curvature matrices as operators on all p, weight decay included: products in bounded memory."""

from gifcore.curvature.batches import BATCH_SIZE, MEMORY_MB
from gifcore.curvature.block import BlockDiagonal, layer_blocks
from gifcore.curvature.datainf import DataInf
from gifcore.curvature.ekfac import EKFAC
from gifcore.curvature.gram import EmpiricalFisher, GaussNewton
from gifcore.curvature.hessian import Hessian, check_deterministic
from gifcore.curvature.samplers import SAMPLERS, draw_samples, spread

__all__ = [
    "BATCH_SIZE",
    "MEMORY_MB",
    "SAMPLERS",
    "EKFAC",
    "BlockDiagonal",
    "DataInf",
    "EmpiricalFisher",
    "GaussNewton",
    "Hessian",
    "check_deterministic",
    "draw_samples",
    "layer_blocks",
    "spread",
]

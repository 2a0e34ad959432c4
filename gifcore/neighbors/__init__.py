"""FastIF: candidates by nearest neighbours, exact influence on them, and what the filter misses.

Reference: Guo et al. 2021, "FastIF: Scalable Influence Functions for Efficient Model
Interpretation and Debugging" (arXiv 2012.15781).
"""

from gifcore.neighbors.index import NeighborIndex
from gifcore.neighbors.nearest import NearestScores, candidate_scores, columns_of, rank_nearest
from gifcore.neighbors.quality import (
    CRITERIA,
    DEPTHS,
    Agreement,
    Recall,
    rank_correlation,
    recall,
    recall_table,
    solve_agreement,
)

__all__ = [
    "CRITERIA",
    "DEPTHS",
    "Agreement",
    "NearestScores",
    "NeighborIndex",
    "Recall",
    "candidate_scores",
    "columns_of",
    "rank_correlation",
    "rank_nearest",
    "recall",
    "recall_table",
    "solve_agreement",
]

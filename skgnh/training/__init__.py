"""Methods that minimise an objective; nothing here knows an estimator."""

from skgnh.training.damping import nielsen, success
from skgnh.training.evidence import Evidence, Hyper, Posterior, Prior
from skgnh.training.levenberg_marquardt import LevenbergMarquardt, Step
from skgnh.training.point import Point, Trial
from skgnh.training.recollection import RecollectingObjective, Recollection
from skgnh.training.run import Patience, Training
from skgnh.training.schedule import Batch, FullBatch, GrowingBatches, MiniBatches
from skgnh.training.state import Problem, State
from skgnh.training.stream import Streamed

__all__ = [
    "Batch",
    "Evidence",
    "FullBatch",
    "GrowingBatches",
    "Hyper",
    "LevenbergMarquardt",
    "MiniBatches",
    "Patience",
    "Point",
    "Posterior",
    "Prior",
    "Problem",
    "RecollectingObjective",
    "Recollection",
    "State",
    "Step",
    "Streamed",
    "Training",
    "Trial",
    "nielsen",
    "success",
]

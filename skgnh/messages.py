"""What the package tells its user."""

import sys
import warnings
from types import FrameType


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the user's line that led here, past this package and scikit-learn."""
    frame: FrameType | None = sys._getframe()
    level = 0
    while frame is not None:
        level += 1
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in ("skgnh", "sklearn", "joblib"):
            break
        frame = frame.f_back
    warnings.warn(message, category, stacklevel=level)

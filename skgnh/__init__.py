"""Second-order neural networks for scikit-learn, and their curvature."""

__version__ = "0.1.0.dev0"

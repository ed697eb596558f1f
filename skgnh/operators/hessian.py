"""What Hessians of a network's objective share."""

from typing import Any

from skgnh.arrays import add_to_diagonal, as_rows, is_foreign, namespace, precision
from skgnh.linalg import Curvature
from skgnh.linearization import Linearization
from skgnh.operators.from_estimator import LoadedModel, load_estimator
from skgnh.operators.restricted import RestrictedHessian

Array = Any


class NetworkHessian(Curvature):
    """The Hessian of a sum over rows, plus ``diag(ridge)``.

    Parameters
    ----------
    linearization : Linearization
        The network linearised at theta over the n rows.
    loss : object
        One of :data:`skgnh.losses.LOSSES`.
    weights : ndarray of shape (n,)
        Weight of each row.
    ridge : ndarray of shape (P,), optional
        Curvature of the penalty; zero if None.
    """

    def __init__(
        self,
        linearization: Linearization,
        loss: Any,
        weights: Array,
        ridge: Array | None = None,
    ):
        self.linearization, self.network = linearization, linearization.network
        self.theta, self.loss, self.weights = linearization.theta, loss, weights
        P, zero = self.network.n_parameters, namespace(self.theta).zeros_like
        self.ridge = zero(self.theta) if ridge is None else ridge
        super().__init__(precision(self.theta), (P, P))
        if is_foreign(self.theta):
            # Indices, and rows of factors neuron by neuron, are NumPy's.
            self.offers = self.offers - {"entries"}

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Array,
        y: Array | None = None,
        sample_weight: Array | None = None,
    ) -> "NetworkHessian":
        """Return the Hessian of a fitted estimator over given rows.

        Parameters
        ----------
        estimator : object
            A fitted estimator of this package, or scikit-learn's MLPClassifier or
            MLPRegressor.
        X : {array-like, sparse matrix} of shape (n, n_features)
            Rows.
        y : array-like, optional
            Their targets; an autoencoder's are X. The exact Hessian needs them, that of
            Gauss and Newton only for the weights that ``class_weight`` gives the rows.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows.

        Returns
        -------
        GaussNewtonHessian or ExactHessian
            With the estimator's penalty as its ridge.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the data do not belong to it, or y is missing.
        """
        model = load_estimator(estimator, X, y, sample_weight)
        rows = Linearization(model.network, model.theta, model.inputs)
        return cls._of_model(model, rows)

    @classmethod
    def _of_model(cls, model: LoadedModel, rows: Linearization) -> "NetworkHessian":
        return cls(rows, model.loss, model.weights, model.ridge)

    @property
    def like(self) -> Array:
        """Theta."""
        return self.theta

    def _matmat(self, V: Array) -> Array:
        directions = as_rows(V, self.dtype)

        def part(rows, trace):
            return [self._product(directions, rows, trace)]

        (out,) = self.linearization.sum(part, self._numbers(V.shape[1]))
        out += self.ridge * directions
        return out.T

    def _product(self, directions: Array, rows: slice, trace: Any) -> Array:
        """Return the part of some rows in products with k directions, (k, P)."""
        raise NotImplementedError

    def _numbers(self, n_columns: int) -> int:
        """Return how many numbers a row a product with some columns holds."""
        raise NotImplementedError

    def restricted(self, index: Array) -> RestrictedHessian:
        """Return the Hessian on some parameters, where the others do not move.

        Parameters
        ----------
        index : array of int of shape (k,)
            Which parameters.

        Raises
        ------
        ValueError
            If the index is off.
        """
        return RestrictedHessian(self, index)

    def _array(self) -> Array:
        return add_to_diagonal(self._data_array(), self.ridge)

    def _data_array(self) -> Array:
        """Return the array without the ridge, of shape (P, P)."""
        raise NotImplementedError

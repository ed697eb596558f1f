"""A hierarchical matrix of H, solved directly or as a preconditioner."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any

import numpy as np
from sklearn.base import clone

from skgnh.hmatrix import compress, hodlr
from skgnh.hmatrix.budget import plan
from skgnh.linalg import Curvature, check_choice, check_number
from skgnh.operators.kronecker import KroneckerBasis, RotatedHessian
from skgnh.operators.sampler import n_draws
from skgnh.solvers.base import Price, sizes
from skgnh.solvers.hmatrix_factor import Approximation, Choice, HMatrixFactor, Kept
from skgnh.solvers.preconditioned import Preconditioned

Array = Any

_BASES = ("own", "kronecker")
# Of the Kronecker basis, where all of it would take too much.
_TAIL = 0.05
# Multiple of a build's price that blocks of all entries may cost; they take less.
_ALL = 10


class HMatrix(Preconditioned):
    r"""Hierarchical approximation, positive definite by construction.

    A base, a global low-rank part and a remainder share `storage` numbers a parameter:
    O(P storage) memory, a damping costs O(P storage^2 + h^3), a solve O(P storage). The
    base is the basis of the K-FAC factors' eigenvectors
    (:class:`skgnh.operators.KroneckerBasis`), in which a GNH is near to diagonal, or
    the parameters' own. In the first the remainder is an exact block for a head of h
    parameters, at most 4,096, where most of it is, and leaves for the others; in the
    second it is a tree. H is held exactly where that takes no more.

    A preconditioner is built of a sample of the rows where that has fewer than n, so
    that the cost of a build does not grow with n beyond the drawing, O(n r W): base,
    global part, head and leaves come of one draw, unbiased and positive semidefinite
    as it is. The iteration corrects it on exact products. The log-determinant that a
    posterior asks for is that of an approximation built of all rows.

    What is left open is chosen by products: for a preconditioner of all rows by 40
    iterations of conjugate gradients for a random right-hand side at the first damping,
    with and without a tenth of the error's norm added to the damping (which spares the
    iterations for what the approximation lacks); for a direct solver by the error of
    products with random vectors. Of a sample, whose build costs less than a choice, the
    first is taken. The choice is kept over the points of a training, and so is the
    preconditioner until the iterations beyond those of its first step have cost as much
    as `patience` builds.

    Parameters
    ----------
    storage : int, default=128
        Numbers a parameter.
    share : float or None, default=None
        Of the storage left by the basis, that of the global part; 1 leaves a diagonal
        remainder. In the Kronecker basis the rest is the head's. None chooses, a
        direct solver also among blocks of a rank each (:func:`skgnh.hmatrix.hodlr`),
        where looking at all entries costs little, for P up to some 1e4.
    basis : {'own', 'kronecker'} or None, default=None
        Basis; None takes 'kronecker' for a GNH with one ridge for a layer's weights,
        unless that basis would take more than half of the storage.
    order : {'natural', 'diagonal', 'angle', 'kernel'}, default='natural'
        Order of the indices in the tree, the head being out of it.
    patience : float, default=1.0
        When to build anew; 0 builds at every point.
    epsilon : float, 'auto' or None, default='auto'
        Error of the sample, relative to the trace: ``1 / epsilon^2`` rows are drawn by
        :meth:`skgnh.operators.GaussNewtonHessian.sample`, whose expected squared error
        in the Frobenius norm is at most ``(epsilon trace(H))^2``. 'auto' draws as many
        rows as the widest layer has inputs and ``P / r`` more, with which neither the
        layers' factors nor the whole lack rank for want of rows; None, 0, and 'auto'
        of a direct solver, take all rows.
    random_state : int, default=0
        Seed.
    max_iter : int, default=100
        Most iterations for a right-hand side.
    tol : float, default=3e-4
        Relative progress a step under which Martens' rule stops.
    rtol, direct
        See :class:`skgnh.solvers.preconditioned.Preconditioned`.

    References
    ----------
    .. [1] C. Chen, S. Reiz, C. Yu, H.-J. Bungartz, G. Biros, "Fast approximation of
           the Gauss-Newton Hessian matrix for the multilayer perceptron", SIMAX 42(1),
           2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_friedman1
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.operators import GaussNewtonHessian
    >>> from skgnh.solvers import HMatrix
    >>> X, y = make_friedman1(20, random_state=0)
    >>> model = GaussNewtonMLPRegressor(hidden_layer_sizes=10, random_state=0).fit(X, y)
    >>> H = GaussNewtonHessian.from_estimator(model, X, y)
    >>> b = np.ones(H.shape[0])
    >>> x = HMatrix(storage=32, rtol=1e-7).factor(H).solve(b, damping=0.1)
    >>> bool(np.linalg.norm(H @ x + 0.1 * x - b) < 1e-6 * np.linalg.norm(b))
    True
    """

    requires = ("entries", "diagonal")
    cost = (
        "4 min(n, max(f) + P / r) P storage + P storage^2 + "
        "(4 n P + 2 P storage) max_iter"
    )
    memory = "2 P storage + n W"
    use = "one preconditioner for many points and small dampings; log-determinants"

    def __init__(
        self,
        storage: int = 128,
        share: float | None = None,
        basis: str | None = None,
        order: str = "natural",
        patience: float = 1.0,
        epsilon: float | str | None = "auto",
        random_state: int = 0,
        max_iter: int = 100,
        tol: float = 3e-4,
        rtol: float | None = None,
        direct: bool = False,
    ):
        super().__init__(max_iter, tol, rtol, direct)
        self.storage = storage
        self.share = share
        self.basis = basis
        self.order = order
        self.patience = patience
        self.epsilon = epsilon
        self.random_state = random_state

    def _parts(self, H: Curvature) -> tuple[Price, float]:
        n, _, _, P = sizes(H)
        rows = min(n, self._most_rows(H))
        made = 4 * rows * P * self.storage + P * self.storage**2
        return Price(made, 2 * P * self.storage), 2 * P * self.storage

    def _most_rows(self, H: Curvature) -> float:
        """Return how many rows the accuracy asks for."""
        offered = H.offers.issuperset({"samples", "layers"})
        if self.epsilon != "auto":
            rows = n_draws(self.epsilon) if self.epsilon else np.inf
        elif offered and not self.direct:
            rows = max(fan for _, fan in H.network.shapes) + H.shape[0] / H.n_roots
        else:
            rows = np.inf
        return rows if offered else np.inf

    def sampled(self, H: Any) -> Any:
        """Return what an approximation of H is built of: a sample of it, or H."""
        rows = self._most_rows(H)
        if rows >= sizes(H).n:
            return H
        return H.sample(int(rows), self.random_state)

    def _approximate(self, H: Curvature, kept: Any) -> HMatrixFactor:
        if isinstance(kept, Kept) and kept.works(H, self.patience * self._worth(H)):
            return HMatrixFactor.of(H, kept, self.random_state, self._exact(H))
        S = self.sampled(H)
        made, bases = [], _bases(S)
        if isinstance(kept, Kept):
            # Unless its basis has come to need too much of the storage.
            with suppress(ValueError):
                made = [self.approximation(S, kept.approximation.choice, bases)]
        if not made:
            choices = self.choices(S, bases)
            # Trials on all rows would cost more than the sample has spared.
            choices = choices if S is H else choices[:1]
            made = [self.approximation(S, choice, bases) for choice in choices]
        factor = HMatrixFactor(H, made, self.random_state, self._exact(H))
        if self.direct:
            factor.choose_by_error()
        return factor

    def _worth(self, H: Curvature) -> float:
        """Return how many iterations cost as much as a build."""
        n, _, _, P = sizes(H)
        made, applied = self._parts(H)
        return made.operations / (4 * n * P + applied)

    def _exact(self, H: Curvature) -> "HMatrix | None":
        """Return what to ask for determinants, where this samples by itself."""
        if self.epsilon != "auto" or self._most_rows(H) >= sizes(H).n:
            return None
        return clone(self).set_params(epsilon=None, direct=True)

    def choices(self, H: Any, bases: Callable | None = None) -> list[Choice]:
        """Return what there is to choose among for H."""
        bases = bases or _bases(H)
        check_choice(self.basis, "basis", (None, *_BASES))
        check_number(self.storage, "storage", 1)
        if H.shape[0] + 1 <= 2 * self.storage:
            return [Choice(None, 0.0)]
        if self.basis != "own" and _rotates(H):
            room = self.storage * H.shape[0]
            size, tail = bases(0.0).size, 0.0
            if 3 * size > room:
                size, tail = bases(_TAIL).size, _TAIL
            if self.basis == "kronecker" or 2 * size <= room:
                if self.share is not None:
                    return [Choice(tail, self.share, 1.0)]
                shares = [(tail, 0.25), (_TAIL, 0.75)]
                if self.direct:
                    # Often a lower error, but more iterations for late classifiers.
                    shares.append((tail, 0.0))
                return [*(Choice(*pair, 1.0) for pair in shares), *self._blocks(H)]
        elif self.basis == "kronecker":
            raise ValueError(
                "basis='kronecker' needs a Gauss-Newton Hessian with one ridge for a "
                "layer's weights and one for its biases; take basis=None."
            )
        own = (0.5, 1.0) if self.share is None else (self.share,)
        return [*(Choice(None, share) for share in own), *self._blocks(H)]

    def _blocks(self, H: Curvature) -> list[Choice]:
        """Return blocks of a rank each, where all entries cost little beside builds.

        Slower to solve with than others as good, they are not for an iteration.
        """
        n, _, _, P = sizes(H)
        operations = P**2 * (n / 2 + 2 * self.storage)
        affordable = operations <= _ALL * self._parts(H)[0].operations
        wanted = self.direct and self.share is None and self.basis != "kronecker"
        return [Choice(None, None)] if wanted and affordable else []

    def approximation(
        self, H: Any, choice: Choice, bases: Callable | None = None
    ) -> Approximation:
        """Return the approximation of a choice."""
        bases = bases or _bases(H)
        basis, storage, operator = None, self.storage, H
        if choice.tail is not None:
            basis = bases(choice.tail)
            operator = RotatedHessian(H, basis)
            storage = storage - basis.size / H.shape[0]
        settings: dict[str, Any] = {
            "order": self.order,
            "random_state": self.random_state,
        }
        if choice.share is None:
            matrix = hodlr(operator, storage, **settings)
        else:
            ranks = plan(H.shape[0], storage, choice.share, choice.head)
            matrix = compress(operator, **settings, **ranks)
        return Approximation(choice, basis, matrix)


def _bases(H: Any) -> Callable[[float], KroneckerBasis]:
    """Return the Kronecker bases of H by their tails, each made once."""
    return cache(partial(KroneckerBasis, H))


def _rotates(H: Any) -> bool:
    """Say whether H is a GNH whose ridge allows a change of basis."""
    if not H.offers.issuperset({"layers", "root"}):
        return False
    return all(
        (layer[:, :-1] == layer[0, 0]).all() and (layer[:, -1] == layer[0, -1]).all()
        for layer in H.network.unpack(H.ridge)
    )

"""A hierarchical matrix of H, solved directly or as a preconditioner."""

from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError
from scipy.sparse.linalg import LinearOperator

from skgnh.hmatrix import HierarchicalMatrix, compress
from skgnh.hmatrix.budget import plan
from skgnh.operators.kronecker import KroneckerBasis, RotatedHessian
from skgnh.solvers.base import Factor
from skgnh.solvers.preconditioned import Preconditioned, conjugate_gradients

Array = Any

_BASES = ("own", "kronecker")
# Of the Kronecker basis, where all of it would take too much.
_TAIL = 0.05
# Iterations of a trial, and products that estimate a norm.
_TRIAL, _POWER = 40, 8
# Of the error's norm, added to the damping where that helps.
_SHIFT = 0.1


class Choice(NamedTuple):
    """What the storage is spent on."""

    tail: float | None
    """Tail of the Kronecker basis, None for the parameters' own."""
    share: float
    """Share of the global part."""
    head: float = 0.0
    """Of what the global part leaves, the share of the head."""
    shift: float = 0.0
    """Multiple of the error's norm that is added to the damping."""


class HMatrix(Preconditioned):
    r"""Hierarchical approximation, positive definite by construction.

    A base, a global low-rank part and a remainder share `storage` numbers a parameter:
    O(P storage) memory, a damping costs O(P storage^2 + h^3), a solve O(P storage). The
    base is the basis of the K-FAC factors' eigenvectors
    (:class:`skgnh.operators.KroneckerBasis`), in which a GNH is near to diagonal, or
    the parameters' own. In the first the remainder is an exact block for a head of h
    parameters, at most 4,096, where most of it is, and leaves for the others; in the
    second it is a tree. H is held exactly where that takes no more.

    What is left open is chosen by products: for a preconditioner by 40 iterations of
    conjugate gradients for a random right-hand side at the first damping, with and
    without a tenth of the error's norm added to the damping (which spares the
    iterations for what the approximation lacks); for a direct solver by the error of
    products with random vectors. The choice is kept over the points of a training, and
    so is the preconditioner until it takes `patience` times as many iterations as when
    it was new.

    Parameters
    ----------
    storage : int, default=128
        Numbers a parameter.
    share : float or None, default=None
        Of the storage left by the basis, that of the global part; 1 leaves a diagonal
        remainder. In the Kronecker basis half of the rest is the head's. None chooses.
    basis : {'own', 'kronecker'} or None, default=None
        Basis; None takes 'kronecker' for a GNH with one ridge for a layer's weights,
        unless that basis would take more than half of the storage.
    order : {'natural', 'diagonal', 'angle', 'kernel'}, default='natural'
        Order of the indices in the tree, the head being out of it.
    patience : float, default=1.5
        When to build anew; 0 builds at every point.
    random_state : int, default=0
        Seed.
    max_iter : int, default=100
        Most iterations for a right-hand side.
    tol : float, default=1e-4
        Relative progress a step under which Martens' rule stops: less than that of
        other preconditioners, as iterations are cheap beside what this one costs to
        make.
    rtol, decay, direct
        See :class:`skgnh.solvers.preconditioned.Preconditioned`.

    References
    ----------
    .. [1] C. Chen, S. Reiz, C. Yu, H.-J. Bungartz, G. Biros, "Fast approximation of
           the Gauss-Newton Hessian matrix for the multilayer perceptron", SIMAX 42(1),
           2021.
    """

    requires = ("entries", "diagonal")
    cost = "some 4 n P storage, 4 n P an iteration"
    memory = "P storage"
    use = "one preconditioner for many points and small dampings; log-determinants"

    def __init__(
        self,
        storage: int = 128,
        share: float | None = None,
        basis: str | None = None,
        order: str = "natural",
        patience: float = 1.5,
        random_state: int = 0,
        max_iter: int = 100,
        tol: float = 1e-4,
        rtol: float | None = None,
        decay: float = 0.95,
        direct: bool = False,
    ):
        super().__init__(max_iter, tol, rtol, decay, direct)
        self.storage = storage
        self.share = share
        self.basis = basis
        self.order = order
        self.patience = patience
        self.random_state = random_state

    def _approximate(self, H: Any, previous: Factor | None) -> "HMatrixFactor":
        made, bases = [], Bases(H)
        if isinstance(previous, HMatrixFactor):
            if previous.works(self.patience):
                return previous
            if previous.choice is not None:
                # Unless its basis has come to need too much of the storage.
                with suppress(ValueError):
                    made = [self.approximation(H, previous.choice, bases)]
        made = made or [
            self.approximation(H, choice, bases) for choice in self.choices(H, bases)
        ]
        factor = HMatrixFactor(H, made, self.random_state)
        if self.direct:
            factor.choose_by_error()
        return factor

    def choices(self, H: Any, bases: "Bases | None" = None) -> list[Choice]:
        """Return what there is to choose among for H."""
        bases = Bases(H) if bases is None else bases
        if self.basis not in (None, *_BASES):
            raise ValueError(f"Unknown basis {self.basis!r}; choose among {_BASES}.")
        if H.shape[0] + 1 <= 2 * self.storage:
            return [Choice(None, 0.0)]
        if self.basis != "own" and _rotates(H):
            room = self.storage * H.shape[0]
            size, tail = bases[0.0].size, 0.0
            if 3 * size > room:
                size, tail = bases[_TAIL].size, _TAIL
            if self.basis == "kronecker" or 2 * size <= room:
                if self.share is None:
                    return [Choice(tail, 0.5, 0.5), Choice(_TAIL, 0.75, 1.0)]
                return [Choice(tail, self.share, 0.5)]
        elif self.basis == "kronecker":
            raise ValueError(
                "basis='kronecker' needs a Gauss-Newton Hessian with one ridge for a "
                "layer's weights and one for its biases; take basis=None."
            )
        shares = (0.5, 1.0) if self.share is None else (self.share,)
        return [Choice(None, share) for share in shares]

    def approximation(
        self, H: Any, choice: Choice, bases: "Bases | None" = None
    ) -> "Approximation":
        """Return the approximation of a choice."""
        bases = Bases(H) if bases is None else bases
        basis, storage, operator = None, self.storage, H
        if choice.tail is not None:
            basis = bases[choice.tail]
            operator = RotatedHessian(H, basis)
            storage = storage - basis.size / H.shape[0]
        sizes = plan(H.shape[0], storage, choice.share, choice.head)
        matrix = compress(
            operator, order=self.order, random_state=self.random_state, **sizes
        )
        return Approximation(choice, basis, matrix)


class Bases(dict):
    """The Kronecker bases of one H by their tails, each made when first asked for."""

    def __init__(self, H: Any):
        super().__init__()
        self._H = H

    def __missing__(self, tail: float) -> KroneckerBasis:
        self[tail] = KroneckerBasis(self._H, tail)
        return self[tail]


def _rotates(H: Any) -> bool:
    """Say whether H is a GNH whose ridge allows a change of basis."""
    if not all(hasattr(H, name) for name in ("network", "root", "ridge")):
        return False
    return all(
        (layer[:, :-1] == layer[0, 0]).all() and (layer[:, -1] == layer[0, -1]).all()
        for layer in H.network.unpack(H.ridge)
    )


class Approximation(LinearOperator):
    """A hierarchical matrix in a basis, with the factorisation of the last damping."""

    def __init__(
        self, choice: Choice, basis: KroneckerBasis | None, matrix: HierarchicalMatrix
    ):
        super().__init__(matrix.dtype, matrix.shape)
        self.choice, self.basis, self.matrix = choice, basis, matrix
        self.shift = 0.0
        self.forget()

    @property
    def size(self) -> int:
        """Numbers that it holds."""
        own = 0 if self.basis is None else self.basis.size
        return own + self.matrix.nbytes // self.dtype.itemsize

    def _matmat(self, V: Array) -> Array:
        if self.basis is None:
            return self.matrix @ V
        return self.basis.restore(self.matrix @ self.basis.rotate(V))

    def _adjoint(self) -> "Approximation":
        return self

    def factor(self, damping: float) -> Any:
        """Return the factorisation at ``damping + shift``, in the basis."""
        if damping != self._damping:
            self.forget()
            self._factor = self.matrix.factor(damping + self.shift)
            self._damping = damping
        return self._factor

    def forget(self) -> None:
        """Let the last factorisation go."""
        self._damping, self._factor = None, None

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return the solution for rhs of shape (P,) or (P, k)."""
        if self.basis is None:
            return self.factor(damping).solve(rhs)
        rotated = self.factor(damping).solve(self.basis.rotate(rhs))
        return self.basis.restore(rotated)

    def shifted(self, multiple: float, norm: float) -> "Approximation":
        """Return it with a multiple of its error's norm added to every damping."""
        choice = self.choice._replace(shift=multiple)
        out = Approximation(choice, self.basis, self.matrix)
        out.shift = multiple * norm
        return out


class HMatrixFactor(Factor):
    """The approximations there are to choose among, and then the chosen one."""

    def __init__(self, H: Any, approximations: list[Approximation], seed: int):
        self._H, self._seed = H, seed
        self._open = approximations
        self._products = 0
        self._first, self._iterations = None, None
        if len(approximations) == 1:
            (only,) = approximations
            if only.choice.shift:
                # It was chosen for its like before.
                only = only.shifted(only.choice.shift, self._error_norm(only))
            self._keep(only)

    def _keep(self, chosen: Approximation) -> None:
        """End the choice, for which alone H is held."""
        self._open, self._H = [chosen], None

    @property
    def choice(self) -> Choice | None:
        """What was chosen, once it is."""
        return self._open[0].choice if len(self._open) == 1 else None

    @property
    def approximation(self) -> Approximation | None:
        """The chosen approximation, once it is."""
        return self._open[0] if len(self._open) == 1 else None

    @property
    def products(self) -> int:
        """Products with H that the choice has spent."""
        return self._products

    @property
    def iterations(self) -> int | None:
        """Iterations that the last solve preconditioned by it took."""
        return self._iterations

    @iterations.setter
    def iterations(self, n: int) -> None:
        self._iterations = n
        self._first = n if self._first is None else self._first

    def works(self, patience: float) -> bool:
        """Say whether it still takes no more than `patience` times its first count."""
        return self._first is not None and self._iterations <= patience * self._first

    # ---- the choice -----------------------------------------------------------------

    def choose_by_error(self, n_vectors: int = 8) -> None:
        """Keep the approximation with the least error of random products."""
        if len(self._open) > 1:
            Z = self._random(n_vectors)
            exact = self._times(Z)
            errors = [np.linalg.norm(A @ Z - exact) for A in self._open]
            self._keep(self._open[int(np.argmin(errors))])

    def choose_by_trial(self, damping: float) -> None:
        """Keep the preconditioner whose short iteration minimises q(x) best."""
        if len(self._open) == 1:
            return
        norms = [self._error_norm(A) for A in self._open]
        tried = [
            A.shifted(multiple, norm) if multiple else A
            for A, norm in zip(self._open, norms, strict=True)
            for multiple in (0.0, _SHIFT)
        ]
        best, least = tried[0], np.inf
        for A in tried:
            value = self._trial(A, damping)
            loser = A
            if value < least:
                best, loser, least = A, best, value
            if loser is not best:
                loser.forget()
        self._keep(best)

    def _trial(self, approximation: Approximation, damping: float) -> float:
        b, shift = self._random(1)[:, 0], self._H.dtype.type(damping)
        iterates = conjugate_gradients(
            lambda x: self._times(x) + shift * x,
            b,
            lambda r: approximation.solve(r, damping),
        )
        value = np.inf
        try:
            for _, _, value in islice(iterates, _TRIAL + 1):  # noqa: B007
                pass
        except LinAlgError:
            return np.inf
        return value

    def _error_norm(self, approximation: Approximation) -> float:
        v = self._random(1)[:, 0]
        for _ in range(_POWER):
            v = v / (np.linalg.norm(v) or 1)
            v = self._times(v) - approximation @ v
        return float(np.linalg.norm(v))

    def _random(self, n: int) -> Array:
        rng = np.random.default_rng(self._seed)
        return rng.standard_normal((self._H.shape[0], n)).astype(self._H.dtype)

    def _times(self, V: Array) -> Array:
        self._products += V[0].size
        return self._H @ V

    # ---- the chosen one -------------------------------------------------------------

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs`` of the approximation."""
        self.choose_by_trial(damping)
        return self._open[0].solve(rhs, damping)

    def logdet(self, damping: float) -> float:
        """Return ``log det (H + damping I)`` of the approximation."""
        self.choose_by_trial(damping)
        return self._open[0].factor(damping).logdet()

"""Methods of the UCI benchmark: this package's and its peers."""

import numpy as np
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import BayesianRidge
from sklearn.preprocessing import StandardScaler

from skgnh import GaussNewtonMLPRegressor

GP_ROWS = 2000
# The published networks: one hidden layer, wider for protein.
WIDTH, WIDE, MANY_ROWS = 50, 100, 40_000
EPOCHS, RATE = 1000, 1e-2
# Most parameters for which laplace-torch gets the full Hessian.
FULL_PARAMETERS = 1500
BATCH = 1000


class Scaled:
    """A model of columns and targets with mean 0 and deviation 1."""

    def __init__(self, model):
        self.model = model

    def fit(self, X, y):
        self.columns = StandardScaler().fit(X)
        self.center, self.scale = y.mean(), y.std() or 1.0
        self.model.fit(self.columns.transform(X), (y - self.center) / self.scale)
        return self

    def predict(self, X, return_std=True):
        """Means and deviations, in the targets' own units."""
        mean, std = self.model.predict(self.columns.transform(X), return_std=True)
        return self.center + self.scale * mean, self.scale * std


class LaplaceNetwork:
    """A tanh network trained by Adam, and laplace-torch's posterior of it.

    Training minimises the negative logarithm of the joint density, with a Gaussian
    prior of precision 1 as weight decay and the noise learned; then the precision and
    the noise maximise the marginal likelihood, at the same weights.
    """

    def __init__(self, width, seed):
        self.width, self.seed = width, seed

    def fit(self, X, y):
        import torch
        from laplace import Laplace
        from torch.utils.data import DataLoader, TensorDataset

        torch.set_num_threads(1)
        torch.manual_seed(self.seed)
        X, y = torch.from_numpy(X), torch.from_numpy(y)[:, None]
        network = torch.nn.Sequential(
            torch.nn.Linear(X.shape[1], self.width),
            torch.nn.Tanh(),
            torch.nn.Linear(self.width, 1),
        ).double()
        log_sigma = _train(network, X, y)
        count = sum(values.numel() for values in network.parameters())
        self.posterior = Laplace(
            network,
            "regression",
            subset_of_weights="all",
            hessian_structure="full" if count <= FULL_PARAMETERS else "kron",
        )
        self.posterior.fit(DataLoader(TensorDataset(X, y), batch_size=BATCH))
        _maximise_evidence(self.posterior, log_sigma)
        return self

    def predict(self, X, return_std=True):
        """Means and deviations, the noise included."""
        import torch

        batches = torch.from_numpy(X).split(BATCH)
        found = [[part.detach().ravel() for part in self.posterior(b)] for b in batches]
        mean, variance = (torch.cat(p).numpy() for p in zip(*found, strict=True))
        return mean, np.sqrt(variance + self.posterior.sigma_noise.item() ** 2)


def _train(network, X, y):
    """Fit the weights by Adam on all rows; the logarithm of the noise's deviation."""
    import torch

    log_sigma = torch.zeros((), dtype=X.dtype, requires_grad=True)
    groups = [
        {"params": network.parameters(), "weight_decay": 1 / len(X)},
        {"params": [log_sigma]},
    ]
    adam = torch.optim.Adam(groups, lr=RATE)
    for _ in range(EPOCHS):
        adam.zero_grad()
        error = (y - network(X)).square().mean()
        (log_sigma + error / (2 * (2 * log_sigma).exp())).backward()
        adam.step()
    return log_sigma.item()


def _maximise_evidence(posterior, log_sigma):
    """Give a posterior the prior precision and noise of most marginal likelihood.

    Without gradients: laplace-torch 0.3 has a wrong one in the noise for 'kron', and
    for 'full' this takes fewer of its values than Adam, which its guide has.
    """
    import torch

    def loss(logarithms):
        precision, sigma = torch.from_numpy(np.exp(logarithms))
        with torch.no_grad():
            value = -posterior.log_marginal_likelihood(precision, sigma).item()
        return value if np.isfinite(value) else np.inf

    start = np.array([0.0, log_sigma])
    found = minimize(
        loss,
        start,
        method="Nelder-Mead",
        options={
            "initial_simplex": start + [[0, 0], [1, 0], [0, 0.5]],
            "xatol": 1e-3,
            "fatol": 1e-3,
        },
    )
    loss(found.x)  # the last point that was tried need not be the best


# ---- what runs -----------------------------------------------------------------------


def _ours(**parameters):
    return lambda shape, seed: GaussNewtonMLPRegressor(random_state=seed, **parameters)


def _published_width(**parameters):
    return lambda shape, seed: GaussNewtonMLPRegressor(
        hidden_layer_sizes=(width(shape[0]),), random_state=seed, **parameters
    )


def width(rows):
    """Units of the published networks for so many training rows."""
    return WIDE if rows > MANY_ROWS else WIDTH


def _gp(shape, seed):
    rows, features = shape
    if rows > GP_ROWS:
        return None
    kernel = ConstantKernel() * RBF(np.ones(features)) + WhiteKernel(0.1)
    model = GaussianProcessRegressor(
        kernel, n_restarts_optimizer=3, normalize_y=True, random_state=seed
    )
    return Scaled(model)


def _bayesian_ridge(shape, seed):
    return Scaled(BayesianRidge())


def _laplace_torch(shape, seed):
    return Scaled(LaplaceNetwork(width(shape[0]), seed))


LAPLACE = "laplace_torch"
METHODS = {
    "default": _ours(),
    "heteroscedastic": _ours(noise="heteroscedastic"),
    "50": _published_width(),
    "50_heteroscedastic": _published_width(noise="heteroscedastic"),
    "gp": _gp,
    "bayesian_ridge": _bayesian_ridge,
    LAPLACE: _laplace_torch,
}


def installed(name):
    """Whether what a method needs can be imported."""
    if name != LAPLACE:
        return True
    try:
        import laplace  # noqa: F401
        import torch  # noqa: F401
    except (ImportError, RuntimeError):  # the latter of builds that do not match
        return False
    return True


def make_model(name, shape, seed):
    """A method for raw columns and targets; None where it does not apply.

    Parameters
    ----------
    name : str
        One of METHODS.
    shape : tuple of int
        Training rows and columns.
    seed : int
        Of all that is drawn.
    """
    return METHODS[name](shape, seed)

"""Digits with default settings: objective and accuracy next to scikit-learn's MLP.

    python benchmarks/digits.py

75/25 split and random_state 0 to 4; every estimator with its defaults, on the pixels as
they are (0 to 16) and divided by 16. The objective is each one's own `loss_`, which is
the same function.
"""

import warnings
from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skgnh import GaussNewtonMLPClassifier

CONTENDERS = {
    "skgnh": lambda seed: GaussNewtonMLPClassifier(random_state=seed),
    "adam": lambda seed: MLPClassifier(random_state=seed),
    "lbfgs": lambda seed: MLPClassifier(solver="lbfgs", random_state=seed),
}


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = load_digits(return_X_y=True)
    for scale in (1, 16):
        found = {name: [] for name in CONTENDERS}
        for seed in range(5):
            split = train_test_split(X / scale, y, random_state=seed)
            X_train, X_test, y_train, y_test = split
            for name, make in CONTENDERS.items():
                start = perf_counter()
                model = make(seed).fit(X_train, y_train)
                seconds = perf_counter() - start
                accuracy = model.score(X_test, y_test)
                found[name].append((model.loss_, accuracy, seconds, model.n_iter_))
        print(f"pixels / {scale}: objective, test accuracy, seconds, iterations")
        for name, rows in found.items():
            lines = [*enumerate(rows), ("mean", np.mean(rows, axis=0))]
            for seed, (loss, accuracy, seconds, n_iter) in lines:
                print(
                    f"  {name:6} {seed:>4}: {loss:.2e} {accuracy:.4f} {seconds:.2f} "
                    f"{n_iter:.0f}"
                )


if __name__ == "__main__":
    main()

"""Nonlinear regression on NIST's reference problems, beside SciPy.

``python benchmarks/nist.py --data DIR`` reads the files (Misra1a.dat and so on) of
NIST's Statistical Reference Datasets, https://www.itl.nist.gov/div898/strd/nls/, runs
every method from both starts of each, and prints how many runs reach the certified
parameters to four digits, and after how many evaluations of the residuals.
"""

import argparse
import re
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from skgnh.operators import DenseMatrix
from skgnh.optimize import levenberg_marquardt
from skgnh.solvers import Dense

MAX_EVALUATIONS = 2000
DIGITS = 4
FUNCTIONS = {name: getattr(np, name) for name in ("exp", "cos", "sin", "arctan", "log")}


class Problem:
    """A file: its model as a function, its starts, certified values and data."""

    def __init__(self, path):
        text = path.read_text()
        self.name = path.stem
        number = r"([-+]?[\d.]+(?:E[-+]?\d+)?)"
        rows = re.findall(rf"^\s*b\d+ =\s+{number}\s+{number}\s+{number}", text, re.M)
        *starts, self.certified = np.array(rows, dtype=float).T
        self.starts = starts
        data = text[re.search(r"^Data:\s+y\s", text, re.M).start() :].splitlines()[1:]
        y, *x = np.array([line.split() for line in data if line.split()], float).T
        self.variables = {"x": x[0], **{f"x{k}": v for k, v in enumerate(x, start=1)}}
        left, right = self.formula(text)
        self.y = eval(left, {}, {**FUNCTIONS, "y": y})
        self.code = compile(right, self.name, "eval")
        self.evaluations = 0

    @staticmethod
    def formula(text):
        """The model as two Python expressions."""
        model = text[text.index("Model:") :]
        found = re.search(r"((?:log\[)?y\]?)\s*=(.*?)\+\s*e\s", model, re.S)
        python = str.maketrans({"[": "(", "]": ")", "\n": " "})
        left, right = (part.translate(python) for part in found.groups())
        return left, " ".join(right.split())

    def model(self, b):
        names = {f"b{k}": value for k, value in enumerate(b, start=1)}
        with np.errstate(all="ignore"):
            return eval(
                self.code, {}, {**FUNCTIONS, "pi": np.pi, **self.variables, **names}
            )

    def residual(self, b):
        self.evaluations += 1
        return self.model(b) - self.y

    def jacobian(self, b):
        """By complex steps, exact to rounding."""
        h = 1e-30
        steps = b + 1j * h * np.eye(len(b))
        with np.errstate(all="ignore"):
            return np.stack([self.model(s).imag / h for s in steps], axis=1)

    def digits(self, b):
        """Digits of the worst parameter."""
        error = np.max(np.abs(b - self.certified) / np.abs(self.certified))
        return -np.log10(max(error, 1e-16)) if np.isfinite(error) else -np.inf

    # ---- the objective of levenberg_marquardt ---------------------------------------

    def value(self, b, rows=None):
        r = self.residual(b)
        return 0.5 * float(r @ r)

    def linearize(self, b, rows=None, curvature_rows=None):
        r, J = self.model(b) - self.y, self.jacobian(b)
        return 0.5 * float(r @ r), J.T @ r, DenseMatrix(J.T @ J)


def ours(scaling):
    """The package's method as a function of problem and start."""

    def run(problem, start):
        best = start
        steps = levenberg_marquardt(
            problem, start, Dense(), step_tol=np.finfo(float).eps, scaling=scaling
        )
        for step in steps:
            best = step.theta
            if problem.evaluations >= MAX_EVALUATIONS:
                break
        return best

    return run


def scipys(method):
    """SciPy's methods, to the least tolerances that they take."""
    eps = np.finfo(float).eps
    tolerances = {"xtol": eps, "ftol": eps, "gtol": eps}

    def run(problem, start):
        try:
            return least_squares(
                problem.residual,
                start,
                jac=problem.jacobian,
                method=method,
                x_scale="jac",
                max_nfev=MAX_EVALUATIONS,
                **tolerances,
            ).x
        except ValueError:  # residuals that are not finite
            return start

    return run


METHODS = {
    "skgnh none": ours("none"),
    "skgnh diagonal": ours("diagonal"),
    "scipy trf": scipys("trf"),
    "scipy lm": scipys("lm"),
}


def evaluations_to_certified(problem, start, method):
    """Evaluations until the certified value is there, and the digits at the end."""
    reached = [np.inf]
    problem.evaluations = 0

    class Watched:
        def __getattr__(self, name):
            return getattr(problem, name)

        def residual(self, b):
            r = problem.residual(b)
            if reached[0] == np.inf and problem.digits(b) >= DIGITS:
                reached[0] = problem.evaluations
            return r

        def value(self, b, rows=None):
            r = self.residual(b)
            return 0.5 * float(r @ r)

    found = method(Watched(), start)
    return reached[0], problem.digits(found), problem.evaluations


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    problems = [Problem(path) for path in sorted(arguments.data.glob("*.dat"))]
    print(f"{len(problems)} problems, two starts each, {DIGITS} digits\n")
    print("| method | runs that reach it | median evaluations, to it / in all |")
    print("|---|---|---|")
    for name, method in METHODS.items():
        results = []
        for problem in problems:
            for k, start in enumerate(problem.starts, start=1):
                to_it, digits, spent = evaluations_to_certified(problem, start, method)
                results.append((digits >= DIGITS, to_it, spent))
                if arguments.verbose and digits < DIGITS:
                    print(f"  {problem.name} start {k}: {digits:.1f} digits, {spent}")
        reached, to_it, spent = np.array(results).T
        print(
            f"| {name} | {int(reached.sum())} of {len(results)} "
            f"| {np.median(to_it):.0f} / {np.median(spent):.0f} |"
        )


if __name__ == "__main__":
    main()

"""Rules of the damping: functions of damping, growth and gain ratio."""


def nielsen(damping: float, growth: float, gain_ratio: float) -> tuple[float, float]:
    """Update damping and its growth factor by Nielsen's rule.

    After a step with gain ratio rho the damping is multiplied by
    ``max(1/3, 1 - (2 rho - 1)^3)``, after a failure by a factor that doubles with each.

    References
    ----------
    .. [1] H. B. Nielsen, "Damping parameter in Marquardt's method", IMM-REP-1999-05,
           Technical University of Denmark, 1999.

    Examples
    --------
    >>> from skgnh.training import nielsen
    >>> nielsen(8.0, 2.0, gain_ratio=0.5)
    (8.0, 2.0)
    >>> nielsen(8.0, 2.0, gain_ratio=-1.0)
    (16.0, 4.0)
    """
    if gain_ratio > 0:
        # Beyond rho = 1 the cube only saturates at 1/3; clip before it overflows.
        rho = min(gain_ratio, 1.0)
        return damping * max(1 / 3, 1 - (2 * rho - 1) ** 3), 2.0
    return damping * growth, 2 * growth


def success(damping: float, growth: float, gain_ratio: float) -> tuple[float, float]:
    """Update the damping by the success of steps on rows that they have not seen.

    Where noise dominates a batch, no damping brings the gain ratio near one: only its
    sign still tells whether steps are too long. The damping falls by 1.3 after a
    reduction and grows by 1.2 after none, which balances where two in five steps
    succeed; before the first success it doubles.

    References
    ----------
    .. [1] I. Rechenberg, "Evolutionsstrategie", Frommann-Holzboog, 1973: the success
           rule for step lengths under noise.

    Examples
    --------
    >>> from skgnh.training import success
    >>> success(1.0, 2.0, gain_ratio=-0.1)
    (2.0, 2.0)
    >>> success(1.0, 1.2, gain_ratio=0.1)
    (0.7692307692307692, 1.2)
    """
    if gain_ratio > 0:
        return damping / 1.3, 1.2
    return damping * growth, growth

"""Multistep solvers against a solution that is known: the clean latents are Gaussian. Needs no Jittor."""
from math import factorial

import numpy as np
import pytest

from ldm.diffusion import Schedule
from ldm.diffusion.multistep import Levels, phi
from ldm.diffusion.protocols import no_noise
from ldm.diffusion.samplers import SAMPLERS
from ldm.errors import UserError

LINEAR = Schedule.linear(1000)
FINE = Schedule.linear(100000)                  # so fine that any lambda is one of its steps
LAM = 0.5 * np.log(FINE.alpha_bar / (1 - FINE.alpha_bar))
MEAN, DEVIATION = 0.7, 0.3                      # of the clean latents
SOLVERS = ["dpmpp_2m", "unipc_2", "unipc_3"]


def noise_of_gaussian(schedule):
    """E[eps | z_t] where z_0 is Gaussian: the network that a perfect training would give."""
    def model(z, t):
        alpha, sigma = np.sqrt(schedule.alpha_bar[t]), np.sqrt(1 - schedule.alpha_bar[t])
        return sigma * (z - alpha * MEAN) / (alpha ** 2 * DEVIATION ** 2 + sigma ** 2), None
    return model


def solution(z, t_from, t_to):
    """The ODE's solution: every z_t keeps its place in the marginal distribution, counted in deviations."""
    (mean, deviation), (new_mean, new_deviation) = (
        (np.sqrt(abar) * MEAN, np.sqrt(abar * DEVIATION ** 2 + 1 - abar))
        for abar in FINE.alpha_bar[[t_from, t_to]])
    return new_mean + new_deviation / deviation * (z - mean)


def latents(name, model, schedule, z, start, noise=no_noise):
    """{index: latent after the step at that index}."""
    return {step.i: step.z for step in SAMPLERS[name](model, schedule, z, start, noise)}


def error(name, count, top=60000, bottom=2000):
    """Largest error after all of `count` steps but the last, which is no step in lambda."""
    indices = [int(np.abs(LAM - x).argmin()) for x in np.linspace(LAM[top], LAM[bottom], count)]
    z = np.array([-1.3, 0.4, 2.0])
    after = latents(name, noise_of_gaussian(FINE), FINE.respace(indices), z, count)
    return np.abs(after[1] - solution(z, top, bottom)).max()


@pytest.mark.parametrize("name, order", [("ddim", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc_2", 3),
                                         ("unipc_3", 4)])
def test_order_of_convergence(name, order):
    """UniPC's corrector raises its predictor's order by one."""
    errors = [error(name, count) for count in (41, 81, 161)]
    for coarse, fine in zip(errors, errors[1:]):
        assert np.log2(coarse / fine) == pytest.approx(order, abs=0.25), errors


@pytest.mark.parametrize("name", SOLVERS)
def test_few_steps_are_better_than_ddims_many(name):
    assert error(name, 21) < error("ddim", 161)


@pytest.mark.parametrize("name", ["heun", *SOLVERS])
def test_a_known_image_is_recovered(name):
    """Where every prediction is the same clean latent, no solver may extrapolate."""
    rng = np.random.default_rng(1)
    z0, eps = rng.standard_normal((2, 1, 3, 4, 4))
    s = LINEAR.window(0.6, 9)

    def model(z, t):
        alpha, sigma = np.sqrt(LINEAR.alpha_bar[t]), np.sqrt(1 - LINEAR.alpha_bar[t])
        return (z - alpha * z0) / sigma, None

    np.testing.assert_allclose(latents(name, model, s, s.add_noise(z0, 8, eps), 9)[0], z0, atol=1e-9)


@pytest.mark.parametrize("name", SOLVERS)
def test_first_and_last_step_are_of_first_order(name):
    model, s, z = noise_of_gaussian(LINEAR), LINEAR.window(0.6, 6), np.array([-1.3, 0.4])
    expected, seen = (latents(sampler, model, s, z, 6) for sampler in ("ddim", name))
    np.testing.assert_allclose(seen[5], expected[5], rtol=1e-12)
    assert np.abs(seen[4] - expected[4]).max() > 1e-4                   # the second is not
    np.testing.assert_allclose(latents(name, model, s, z, 1)[0], latents("ddim", model, s, z, 1)[0],
                               rtol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_one_prediction_a_step_no_noise_the_same_twice(name):
    def counted(z, t):
        visited.append(t)
        return model(z, t)

    def noise(i):
        raise AssertionError("a solver of the ODE draws no noise")

    model, s, made = noise_of_gaussian(LINEAR), LINEAR.window(0.5, 7, "karras"), []
    for _ in range(2):
        visited = []
        made.append(latents(name, counted, s, np.array([0.3, -2.0]), 7, noise)[0])
        assert visited == s.timesteps[::-1].tolist()
    assert np.array_equal(*made)


def test_heun_predicts_at_both_ends_of_a_step():
    """But not at the clean latent, where the last step ends."""
    def counted(z, t):
        visited.append(t)
        return model(z, t)

    model, s, visited = noise_of_gaussian(LINEAR), LINEAR.window(0.5, 4, "karras"), []
    latents("heun", counted, s, np.array([0.3, -2.0]), 4)
    t = s.timesteps
    assert visited == [t[3], t[2], t[2], t[1], t[1], t[0], t[0]]


def test_2m_is_that_of_the_other_notation():
    """The same method as its users write it: in x = z / alpha and sigma' = sigma / alpha."""
    model, s = noise_of_gaussian(LINEAR), LINEAR.window(0.7, 8, "logsnr")
    z = np.array([-1.3, 0.4, 2.0])
    sigmas = np.append(np.sqrt(1 / s.alpha_bar - 1)[::-1], 0)
    x, old = z / np.sqrt(s.alpha_bar[-1]), None
    for k in range(8):
        i = 7 - k
        scaled = np.sqrt(s.alpha_bar[i]) * x
        denoised = s.predict_z0(scaled, model(scaled, s.timesteps[i])[0], i)
        if old is None or sigmas[k + 1] == 0:
            x = sigmas[k + 1] / sigmas[k] * (x - denoised) + denoised
        else:
            h, h_last = np.log(sigmas[k] / sigmas[k + 1]), np.log(sigmas[k - 1] / sigmas[k])
            ahead = denoised + h / (2 * h_last) * (denoised - old)
            x = sigmas[k + 1] / sigmas[k] * x + (1 - np.exp(-h)) * ahead
        old = denoised
    np.testing.assert_allclose(latents("dpmpp_2m", model, s, z, 8)[0], x, rtol=1e-12)


def test_slopes_integrate_polynomials():
    """Against the integral of exp(lambda - lambda_t) p(lambda), by quadrature."""
    s = LINEAR.window(0.9, 6)
    levels, (points, weights) = Levels(s), np.polynomial.legendre.leggauss(40)
    start, end, others = 3, 2, [4, 5, 2]
    h = levels.lam[end] - levels.lam[start]
    lam = levels.lam[start] + h * (points + 1) / 2
    for degree in (1, 2, 3):
        values = np.exp(lam - levels.lam[end]) * (lam - levels.lam[start]) ** degree
        integral = (weights * values).sum() * h / 2
        slopes = levels.slopes(start, end, others[:degree])
        made = (slopes * (levels.lam[others[:degree]] - levels.lam[start]) ** degree).sum()
        assert made == pytest.approx(integral, rel=1e-9)


def test_phi_is_its_series():
    for n in (1, 2, 3, 4):
        for x in (-0.3, -1.0, -4.0):
            assert phi(n, x) == pytest.approx(sum(x ** k / factorial(k + n) for k in range(60)), rel=1e-9)


@pytest.mark.parametrize("spacing, even", [("time", lambda s: s.timesteps), ("logsnr", lambda s: np.log(
    s.alpha_bar / (1 - s.alpha_bar))), ("karras", lambda s: (1 / s.alpha_bar - 1) ** (1 / 14))])
def test_spacing(spacing, even):
    for steps in (1, 2, 5, 20, 300, 599, 600):
        s = LINEAR.window(0.6, steps, spacing)
        assert len(s) == steps and s.timesteps[-1] == 599 and (np.diff(s.timesteps) > 0).all()
        assert steps == 1 or s.timesteps[0] == 0
    gaps = np.abs(np.diff(even(FINE.window(0.6, 12, spacing))))         # fine: no rounding of t to speak of
    assert gaps.max() / gaps.min() == pytest.approx(1, abs=0.05)


def test_unknown_spacing_is_named():
    with pytest.raises(UserError, match="spacing: is 'cosine'.*karras"):
        LINEAR.window(0.6, 5, "cosine")

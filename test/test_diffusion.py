"""Schedules, samplers and guidance against the golden numbers of guided-diffusion. Needs no Jittor."""
import numpy as np
import pytest
from conftest import golden

from ldm.diffusion import Schedule
from ldm.diffusion.guidance import guide
from ldm.diffusion.samplers import ddim, ddpm
from ldm.errors import UserError

LINEAR = Schedule.linear(1000)
CHAINS = {"full1000": LINEAR, "ddim500": LINEAR.respace("ddim500"), "ddim50": LINEAR.respace("ddim50"),
          "250": LINEAR.respace("250")}
G = golden("diffusion")


def close(a, b, tolerance=1e-5):
    scale = np.abs(b).max() or 1
    assert np.abs(np.asarray(a, np.float64) - b).max() <= tolerance * scale


def test_linear_schedule():
    close(LINEAR.betas, G["sched_linear1000/betas"], 1e-12)
    close(LINEAR.alpha_bar, G["sched_linear1000/alphas_cumprod"], 1e-12)
    close(LINEAR.posterior_variance, G["sched_linear1000/posterior_variance"], 1e-12)
    close(LINEAR.posterior_log_variance, G["sched_linear1000/posterior_log_variance_clipped"], 1e-12)


@pytest.mark.parametrize("spec, steps, key", [("10,15,20", 300, "space_300_10_15_20"), ("ddim1000", 1000,
                         "space_1000_ddim1000"), ("10,0,1", 1000, "space_1000_10_0_1")])
def test_respacing_rules(spec, steps, key):
    assert np.array_equal(Schedule.linear(steps).respace(spec).timesteps, G[f"{key}/steps"])


@pytest.mark.parametrize("name", CHAINS)
def test_chain(name):
    s = CHAINS[name]
    assert np.array_equal(s.timesteps, G[f"{name}/timestep_map"])
    close(s.betas, G[f"{name}/betas"], 1e-9)
    close(s.alpha_bar, G[f"{name}/alphas_cumprod"], 1e-12)
    x0, noise, x_t, t = G["in/x_start"], G["in/noise"], G["in/x_t"], G[f"{name}/t"]
    assert np.array_equal(s.timesteps[t], G[f"{name}/model_timesteps"])
    close(s.add_noise(x0, t, noise), G[f"{name}/q_sample"])
    close(s.posterior_mean(x0, x_t, t), G[f"{name}/q_posterior_mean"])
    close(s.posterior_variance[t], G[f"{name}/q_posterior_variance"])
    eps, values = np.split(G["in/model_out"], 2, axis=1)
    close(s.predict_z0(x_t, eps, t), G[f"{name}/pmv_clip0/pred_xstart"])
    close(s.mean(x_t, eps, t), G[f"{name}/pmv_clip0/mean"])
    close(s.log_variance(values, t), G[f"{name}/pmv_clip0/log_variance"])


def one_step(sampler, schedule, n, i, **options):
    """Image n of the golden inputs after the step at index i alone."""
    eps, values = np.split(G["in/model_out"][n:n + 1], 2, axis=1)
    seen = []

    def model(z, t):
        seen.append((z, t))
        return eps, values

    step = next(sampler(model, schedule, G["in/x_t"][n:n + 1], i + 1,
                        noise=lambda i: G["in/step_noise"][n:n + 1], **options))
    assert seen[0][1] == schedule.timesteps[i] and step.i == i
    return step.z[0]


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("key, sampler, options", [("p_sample", ddpm, {}), ("ddim_eta0", ddim, {}),
                                                   ("ddim_eta05", ddim, {"eta": 0.5})])
def test_sampler_step(name, key, sampler, options):
    for n, i in enumerate(G[f"{name}/t"]):
        close(one_step(sampler, CHAINS[name], n, int(i), **options), G[f"{name}/{key}"][n])


@pytest.mark.parametrize("scale", [3.7, 1.5, 1.0, 0.5])
def test_guidance(scale):
    g = golden("cfg")
    (cond, values), uncond = np.split(g["cond"], 2, axis=1), g["uncond"][:, :3]
    eps = guide(cond, uncond, scale)
    s, t = CHAINS["ddim50"], g["t_index"]
    close(eps, g[f"s{scale}/eps"])
    close(values, g[f"s{scale}/var_values"])
    close(s.mean(g["x"], eps, t), g[f"s{scale}/mean"])
    close(s.log_variance(values, t), g[f"s{scale}/log_variance"])
    close(s.predict_z0(g["x"], eps, t), g[f"s{scale}/pred_xstart"])
    for n, i in enumerate(t):
        step = next(ddim(lambda z, t, n=n: (eps[n:n + 1], None), s, g["x"][n:n + 1], int(i) + 1))
        close(step.z[0], g[f"s{scale}/ddim"][n])


def test_entry_start_points():
    """The entry's rounds: ddim500 at 300 is t = 600, sqrt(abar) 0.160; ddim50 at 20 is t = 400, 0.440."""
    for spec, start, t, kept in (("ddim500", 300, 600, 0.160), ("ddim500", 320, 640, 0.124),
                                 ("ddim50", 20, 400, 0.440)):
        s = LINEAR.respace(spec)
        assert s.timesteps[start] == t
        assert np.sqrt(s.alpha_bar[start]) == pytest.approx(kept, abs=1e-3)


def test_papers_schedule_warns_and_forgets():
    with pytest.warns(UserWarning, match="3e-13"):
        s = Schedule.paper(1000)
    assert np.sqrt(s.alpha_bar[319]) == pytest.approx(3e-13, rel=0.2)
    assert s.alpha_bar[-1] == 0
    rng = np.random.default_rng(0)
    *_, last = ddpm(lambda z, t: (0.1 * z, None), s, rng.standard_normal((1, 3, 4, 4)), 320,
                    lambda i: np.zeros((1, 3, 4, 4)))
    assert np.isfinite(last.z).all()


def test_cosine_schedule():
    s = Schedule.cosine(1000)
    expected = (np.cos((501 / 1000 + .008) / 1.008 * np.pi / 2) / np.cos(.008 / 1.008 * np.pi / 2)) ** 2
    assert s.betas[-1] == 0.999 and s.alpha_bar[500] == pytest.approx(expected, rel=1e-9)


def test_window_runs_so_many_steps_from_strength():
    s = LINEAR.window(0.6, 20)
    assert len(s) == 20 and s.timesteps[-1] == 599 and s.timesteps[0] == 0
    for strength, steps in ((0, 5), (1.2, 5), (0.01, 11), (0.5, 0)):
        with pytest.raises(UserError, match="strength"):
            LINEAR.window(strength, steps)


def test_ddim_recovers_a_known_image():
    """With the true noise as prediction, DDIM ends at the image it started from."""
    rng = np.random.default_rng(1)
    z0, eps = rng.standard_normal((2, 1, 3, 4, 4))
    s = LINEAR.respace("ddim50")
    *_, last = ddim(lambda z, t: (eps, None), s, s.add_noise(z0, 30, eps), 31)
    np.testing.assert_allclose(last.z, z0, atol=1e-9)


@pytest.mark.parametrize("text", ["ddim333", "x", "2000", "0", "ddim5,5"])
def test_bad_respacing_is_named(text):
    with pytest.raises(UserError, match=text.replace("x", "'x'")):
        LINEAR.respace(text)

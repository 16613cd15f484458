"""Network and diffusion together, against golden numbers: the DDIM loop and one training step."""
import numpy as np
import pytest
from conftest import golden, one_hot
from test_networks import rounding, small_unet, worst

from ldm.backend import jt
from ldm.diffusion import Schedule
from ldm.diffusion.guidance import guide
from ldm.diffusion.losses import training_loss
from ldm.diffusion.samplers import SAMPLERS, ddim

LINEAR = Schedule.linear(1000)


def test_guided_ddim_loop_equals_reference():
    g, network = golden("ddim_loop"), small_unet()
    y = jt.array(one_hot(g["labels"]))
    schedule, start = LINEAR.respace("ddim50"), int(g["t_start"])
    x_T = schedule.add_noise(g["z0"], start, g["noise"])
    assert worst(x_T, g["x_T"]) < 1e-5
    with jt.no_grad():
        masked, empty = network.modulate(y), network.modulate(jt.zeros(y.shape))

        def model(z, t):
            encoded = network.encode(z, [t] * len(x_T))
            return guide(network.decode(*encoded, masked)[:, :3], network.decode(*encoded, empty)[:, :3],
                         float(g["s"])), None

        latents = [step.z.numpy() for step in ddim(model, schedule, jt.array(x_T.astype("float32")), start)]
    stds = [z.std() for z in latents]
    assert worst(latents[-1], g["final"]) < rounding(g, "final")
    assert worst(stds, g["traj_std"]) < rounding(g, "final")


def test_training_step_equals_reference():
    g, network = golden("train_step"), small_unet()
    network.train()
    z_t = LINEAR.add_noise(g["x_start"], g["t"], g["noise"]).astype("float32")
    out = network(jt.array(z_t), g["t"], jt.array(one_hot(g["labels"])))
    terms = training_loss(out, g["x_start"], z_t, g["noise"], g["t"], LINEAR, "mse+vb")
    for name in ("mse", "vb", "loss"):
        assert np.abs(terms[name].numpy() / g[name] - 1).max() < 1e-4, name
    parameters = network.state_dict()
    grads = dict(zip(parameters, jt.grad(terms["loss"].mean(), list(parameters.values()))))
    for name, norm in zip(g["grad_keys"], g["grad_l2"]):
        assert np.linalg.norm(grads[str(name)].numpy()) == pytest.approx(norm, rel=1e-4, abs=1e-7), name
    for key in (k for k in g if k.startswith("grad/")):
        got = grads[key[5:]].numpy()
        assert np.linalg.norm(got - g[key]) / np.linalg.norm(g[key]) < 1e-4, key


@pytest.mark.parametrize("chain, kind, key", [("full1000", "mse+vb", "loss_mse"),
                                              ("ddim500", "mse+vb", "loss_mse"),
                                              ("ddim50", "mse+vb_rescaled", "loss_rescaled_mse"),
                                              ("250", "mse+vb_rescaled", "loss_rescaled_mse")])
def test_losses_equal_reference(chain, kind, key):
    """Row 0 is clamped to -1 and 1, which reaches the open ends of the discretised likelihood. The
    reference is float32 and up to 2.1e-5 from its own formula in float64 where the bound is small: there
    the formula decides."""
    g = golden("diffusion")
    s = LINEAR if chain == "full1000" else LINEAR.respace(chain)
    z0, eps, t = g["in/x_start"], g["in/noise"], g[f"{chain}/t"]
    terms = training_loss(jt.array(g["in/model_out"]), z0, s.add_noise(z0, t, eps), eps, t, s, kind)
    for name, tolerance in (("mse", 1e-5), ("vb", 3e-5), ("loss", 1e-5)):
        assert np.abs(terms[name].numpy() / g[f"{chain}/{key}/{name}"] - 1).max() < tolerance, name
    exact = kl_in_float64(s, t, eps, g["in/model_out"]) * (len(s) / 1000 if kind == "mse+vb_rescaled" else 1)
    assert np.abs(terms["vb"].numpy() / exact - 1)[t > 0].max() < 1e-5


def kl_in_float64(s, t, eps, out):
    def at(c):
        return c[t].reshape(-1, 1, 1, 1)
    predicted, values = np.split(out.astype(np.float64), 2, axis=1)
    low, high = at(s.posterior_log_variance), at(np.log(s.betas))
    log_variance = low + (values + 1) / 2 * (high - low)
    apart = at(s.betas / np.sqrt((1 - s.alpha_bar) * s.alphas)) * (eps - predicted)
    kl = 0.5 * (log_variance - low + np.exp(low - log_variance) - 1 + apart ** 2 * np.exp(-log_variance))
    return kl.mean((1, 2, 3)) / np.log(2)


def test_bounds_gradient_stays_in_the_variance():
    g = golden("diffusion")
    out, t = jt.array(g["in/model_out"]), g["full1000/t"]
    z_t = LINEAR.add_noise(g["in/x_start"], t, g["in/noise"])
    terms = training_loss(out, g["in/x_start"], z_t, g["in/noise"], t, LINEAR, "mse+vb")
    grad = jt.grad(terms["vb"].sum(), out).numpy()
    assert np.isfinite(grad).all() and not grad[:, :3].any() and grad[:, 3:].any()


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc_2", "unipc_3"])
def test_a_solvers_graph_does_not_grow_with_its_steps(sampler):
    """`history` names all that a later step uses: else operators grow, and each is compiled anew."""
    chain, alive = Schedule.named("linear").window(0.6, 9, "karras"), []
    with jt.no_grad():
        for step in SAMPLERS[sampler](lambda z, t: (0.1 * z, None), chain, jt.ones((1, 3, 4, 4)), 9):
            jt.sync([step.z, *step.history])
            alive.append(jt.number_of_lived_ops())
    assert len(alive) == 9 and len(set(alive[4:8])) == 1, alive

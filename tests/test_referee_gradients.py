"""The judge of gradients: the page's own agrees, every departure is named as what it is."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import a2c, a3c, async_q, ddpg, reinforce
from algorithms.referee import gradients
from algorithms.referee.gradient_pages import ddpg_models, network_of, policy_of
from algorithms.referee.guard import Asked, Unusable
from algorithms.runner.cli import main
from npgrad import grad

SETUPS = [
    *((name, {}) for name in gradients.NAMES),
    *((name, {"continuous": True}) for name in gradients.NAMES[:4]),
    *((name, {"trunk": "shared"}) for name in ("a3c", "a2c")),
    ("a2c", {"trunk": "shared", "continuous": True}),
]
BATCHES = [gradients.batch(name, **options) for name, options in SETUPS]
NAMED = [f"{name}-{'-'.join(options)}".strip("-") for name, options in SETUPS]
name_of = lambda made: NAMED[BATCHES.index(made)]
every_batch = pytest.mark.parametrize("made", BATCHES, ids=NAMED)
A2C = BATCHES[gradients.NAMES.index("a2c")]


def terms(made, variant=None):
    method = gradients.METHODS[made.method]
    page = {axis: values[0] for axis, values in method.axes(made).items()}
    return method.terms(made, page | (variant or {}))


def total(coefficients, terms):
    return sum(c * terms[name] for name, c in coefficients.items())


def departures(made):
    """{axis: value} of every variant that departs from the page in one axis."""
    axes = gradients.METHODS[made.method].axes(made)
    return [{axis: value} for axis, values in axes.items() for value in values[1:]]


# what a user would write: the page's objective, differentiated by the tape


def outputs(theta, made):
    y = policy_of(made).model(theta, made.S)
    return y[:, :-1], y[:, -1]


def acting(theta, made, R=None, advantage=None, weight=None):
    R = made.R if R is None else R
    advantage = made.advantage if advantage is None else advantage
    weight = made.weight if weight is None else weight
    (h, v), head = outputs(theta, made), policy_of(made).head
    if made.method == "a2c":
        return a2c.objective(h, v, head, made.A, R, advantage, weight, made.beta, made.value_coef)
    if made.method == "a3c":
        return a3c.objective(h, v, head, made.A, R, advantage, made.beta, made.value_coef)
    factor = advantage * made.gamma**made.t * weight
    share = weight[0]
    return reinforce.objective(h, head, made.A, factor) - share * reinforce.value_objective(v, R)


def critic(theta, made):
    _, q = ddpg_models()
    return ddpg.critic_objective(q(theta, made.S, made.A)[:, 0], made.y, q.weights(theta), made.l2)


def actor(theta, made):
    mu, q = ddpg_models()
    return ddpg.actor_objective(q(made.critic, made.S, mu(theta, made.S))[:, 0])


def q_learning(theta, made):
    return async_q.objective(network_of(made)(theta, made.S), made.A, made.y)


def rmsprop(theta, made):
    g = made.decay * made.g + (1 - made.decay) * made.gradient**2
    return made.step_size * made.gradient / np.sqrt(g + made.eps)


def adam(theta, made, inside=False, corrected=True):
    m = made.beta1 * made.m + (1 - made.beta1) * made.gradient
    v = made.beta2 * made.v + (1 - made.beta2) * made.gradient**2
    if corrected:
        m, v = m / (1 - made.beta1**made.t), v / (1 - made.beta2**made.t)
    root = np.sqrt(v + made.eps) if inside else np.sqrt(v) + made.eps
    return made.step_size * m / root


USERS = {name: grad(acting) for name in gradients.NAMES[:4]} | {
    "ddpg-critic": grad(critic), "ddpg-actor": grad(actor), "async-n-step-q": grad(q_learning),
    "rmsprop": rmsprop, "adam": adam}  # fmt: skip


@every_batch
@pytest.mark.parametrize("seed", [0, 1])
def test_referee_gradients__of_the_page_agree(made, seed):
    made = gradients.batch(made.method, seed, made.continuous, made.trunk)
    d = Asked(USERS[made.method])(made.theta, made, shape=made.theta.shape)
    verdict = gradients.judge(d, made)
    assert verdict.agrees and verdict.fits and verdict.worst is None, verdict
    assert verdict.coefficients == verdict.page and verdict.variants == verdict.page_variants
    assert verdict.line.startswith("agrees: ") and "\n" not in verdict.line
    assert str(verdict) == str(gradients.judge(d, made))


@every_batch
def test_referee_gradients__agree_in_single_precision(made):
    assert gradients.judge(gradients.page_gradient(made).astype(np.float32), made).agrees


def test_referee_gradients__take_the_page_for_the_reference(monkeypatch):
    """Double the page's function, and the reference doubles."""
    d, own = gradients.page_gradient(A2C), a2c.gradient
    monkeypatch.setattr(a2c, "gradient", lambda *args: [2.0 * g for g in own(*args)])
    assert np.allclose(gradients.page_gradient(A2C), 2.0 * d, 1e-12, 0)


@every_batch
def test_referee_gradients__have_what_a_batch_promises(made):
    if made.method in gradients.NAMES[:4]:
        assert made.terminated.any() and made.truncated.any()
        assert len(set(made.environment)) >= 2 and made.real.all() == (made.method != "a2c")
    if made.continuous:
        assert (made.A != np.clip(made.A, made.low, made.high)).any()
    assert sum(np.prod(x["shape"]) for x in made.layout.values()) == len(made.theta)


# departures


@every_batch
@pytest.mark.parametrize("k", [-1.0, 1.0])
def test_referee_gradients__name_each_variant_and_nothing_else(made, k):
    page = gradients.METHODS[made.method].page(made)
    for departure in departures(made):
        verdict = gradients.judge(k * total(page, terms(made, departure)), made)
        expected = verdict.page_variants | departure
        assert verdict.fits and not verdict.agrees and verdict.variants == expected, departure
        assert verdict.apart == [] and abs(verdict.multiple - k) < 1e-7, departure
        assert ("the negative" in verdict.line) == (k < 0)


@every_batch
def test_referee_gradients__name_a_mixture_of_two_choices_as_such(made):
    page, found = gradients.METHODS[made.method].page(made), departures(made)
    for one, two in zip(found[::2], found[3:]):
        if one.keys() != two.keys():
            verdict = gradients.judge(total(page, terms(made, one | two)), made)
            assert verdict.variants == verdict.page_variants | one | two, (one, two)


@every_batch
def test_referee_gradients__find_no_match_for_the_mean_of_two_variants(made):
    """Half of one variant and half of another is neither."""
    page = gradients.METHODS[made.method].page(made)
    one, two = departures(made)[0], departures(made)[-1]
    if one != two:
        d = 0.5 * total(page, terms(made, one)) + 0.5 * total(page, terms(made, two))
        assert not gradients.judge(d, made).fits


@every_batch
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_referee_gradients__recover_coefficients(made, data):
    parts = terms(made)
    first = next(iter(gradients.METHODS[made.method].page(made)))
    numbers = st.floats(-3, 3).filter(lambda c: c == 0.0 or abs(c) > 1e-3)
    drawn = {name: data.draw(numbers, name) for name in parts if name != first}
    drawn[first] = data.draw(st.sampled_from([1.0, -1.0, 0.37, 1.7]), first)
    verdict = gradients.judge(total(drawn, parts), made)
    assert verdict.fits and verdict.variants == verdict.page_variants
    for name, c in verdict.coefficients.items():
        assert abs(c - drawn.get(name, 0.0)) < 1e-8, name


@every_batch
def test_referee_gradients__name_the_worst_parameter_of_what_fits_nothing(made):
    d = np.random.default_rng(7).standard_normal(len(made.theta))
    verdict = gradients.judge(d, made)
    worst = verdict.worst
    where = made.layout[worst["parameter"]]
    i = where["offset"] + np.ravel_multi_index(worst["index"], where["shape"])
    assert not verdict.fits and not verdict.agrees and d[i] == worst["yours"]
    assert np.isclose(worst["page"], gradients.page_gradient(made)[i], 1e-12)
    assert worst["parameter"] in verdict.line and str(worst["index"]) in verdict.line


@pytest.mark.parametrize("made", [b for b in BATCHES if len(b.layout) > 1], ids=name_of)
def test_referee_gradients__name_the_one_array_that_is_wrong(made):
    for name, where in list(made.layout.items())[::3]:
        d = gradients.page_gradient(made)
        d[where["offset"]] += 0.1
        verdict = gradients.judge(d, made)
        assert not verdict.fits and verdict.but == name == verdict.worst["parameter"]
        assert verdict.worst["index"] == [0] * len(where["shape"])
        assert np.isclose(verdict.worst["fit"], verdict.worst["page"])


REDUCTIONS = {"reinforce": 3, "actor-critic": 3, "a3c": 3, "a2c": 5, "ddpg-critic": 2}


@pytest.mark.parametrize("method, many", REDUCTIONS.items())
def test_referee_gradients__name_reductions(method, many):
    made = gradients.batch(method)
    factors = gradients.METHODS[method].reductions(made, gradients.judge(made.theta, made).variants)
    (_, own), *others = factors.items()
    assert len(factors) == many == len(set(factors.values()))
    for reduction, factor in others:
        verdict = gradients.judge(-factor / own * gradients.page_gradient(made), made)
        assert verdict.variants["reduction"] == reduction
        assert np.isclose(verdict.multiple, -1.0) and verdict.apart == []


# departures as a user would have them


def a2c_returns(made, stops_at, n=7, N=3):
    """R with an own loop; bootstraps from v_next wherever the return stops."""
    R, r = np.zeros((n, N)), made.r.reshape(n, N)
    v, stops = (x.reshape(n, N) for x in (made.v_next * ~stops_at, made.stops))
    for t in reversed(range(n)):
        R[t] = r[t] + made.gamma * (v[t] + (0 if t == n - 1 else R[t + 1] * ~stops[t]))
    return R.ravel()


def test_referee_gradients__see_truncation_taken_for_termination():
    R = a2c_returns(A2C, A2C.truncated)
    d = grad(acting)(A2C.theta, A2C, R, R - A2C.v)
    assert np.allclose(a2c_returns(A2C, np.zeros(21, bool)), A2C.R)
    assert gradients.judge(d, A2C).variants["ends"] == "truncation as termination"


@pytest.mark.parametrize("ddof", [0, 1])
def test_referee_gradients__see_advantages_normalised(ddof):
    seen = A2C.advantage[A2C.real]
    scaled = (A2C.advantage - seen.mean()) / (seen.std(ddof=ddof) + 1e-8)
    verdict = gradients.judge(grad(acting)(A2C.theta, A2C, None, scaled), A2C)
    assert verdict.departing == ["normalised advantage"]
    assert verdict.variants["normalised advantage"] == f"s.d. with ddof {ddof}"


def test_referee_gradients__see_reset_steps_counted():
    d = grad(acting)(A2C.theta, A2C, None, None, np.full(21, 1 / 21))
    assert gradients.judge(d, A2C).departing == ["reset steps"]


def test_referee_gradients__see_discounted_terms():
    d = grad(acting)(A2C.theta, A2C, None, None, A2C.weight * A2C.gamma**A2C.t)
    verdict = gradients.judge(d, A2C)
    assert verdict.departing == ["discount"]
    assert verdict.variants["discount"] == "γ^t in all terms"


def test_referee_gradients__see_q_targets_that_are_no_numbers():
    """Each step's y, with a loop of its own, from Q itself in place of θ⁻'s."""
    made = gradients.batch("async-n-step-q")

    def attached(theta, made):
        q = network_of(made)
        q2 = np.max(q(theta, made.S2), 1)
        y = [None] * len(made.r)
        for t in reversed(range(len(y))):
            after = q2[t] * (1 - made.terminated[t]) if made.stops[t] else y[t + 1]
            y[t] = made.r[t] + made.gamma * after
        return async_q.objective(q(theta, made.S), made.A, np.stack(y))

    verdict = gradients.judge(grad(attached)(made.theta, made), made)
    assert verdict.departing == ["error_through_target", "target network"]
    assert np.isclose(verdict.coefficients["error_through_target"], 1.0)


def test_referee_gradients__see_an_advantage_that_is_no_number():
    """The gradient that flows through v in the advantage is a term of its own."""

    def attached(theta, made):
        return acting(theta, made, None, made.R - outputs(theta, made)[1])

    verdict = gradients.judge(grad(attached)(A2C.theta, A2C), A2C)
    assert verdict.departing == ["policy_through_v"]
    assert np.isclose(verdict.coefficients["policy_through_v"], 1.0, 1e-8)


def test_referee_gradients__see_bootstraps_that_are_no_numbers():
    """Through R the gradient of both terms flows: they are named, each with its coefficient."""
    made = gradients.batch("a3c")
    ends = made.stops & ~made.terminated
    length = {i: np.flatnonzero(made.environment == i) for i in set(made.environment)}
    J = np.zeros((14, 14))  # ∂R/∂v_next: γ to the number of steps until the bootstrap
    for j in np.flatnonzero(ends):
        for i in length[made.environment[j]]:
            J[i, j] = made.gamma ** (j - i + 1)

    def attached(theta, made):
        v2 = policy_of(made).model(theta, made.S2)[:, -1]
        R = made.R + J @ (v2 - made.v_next)
        return acting(theta, made, R, R - outputs(theta, made)[1])

    verdict = gradients.judge(grad(attached)(made.theta, made), made)
    through = ["policy_through_v", "policy_through_bootstrap", "value_through_bootstrap"]
    assert verdict.departing == through, verdict
    assert np.allclose([verdict.coefficients[name] for name in through], [1, 1, made.value_coef])


@pytest.mark.parametrize("made", [b for b in BATCHES if b.continuous], ids=name_of)
def test_referee_gradients__see_clipped_actions(made):
    clipped = SimpleNamespace(**(vars(made) | {"A": np.clip(made.A, -1, 1)}))
    d = USERS[made.method](made.theta, clipped)
    assert gradients.judge(d, made).departing == ["action"]


def test_referee_gradients__see_what_is_wrong_with_an_optimiser():
    made = gradients.batch("adam")
    found = {"inside": ["eps"], "corrected": ["bias correction"]}
    for way, departing in found.items():
        d = adam(made.theta, made, **{way: way == "inside"})
        assert gradients.judge(d, made).departing == departing
    made = gradients.batch("rmsprop")
    g = made.decay * made.g + (1 - made.decay) * made.gradient**2
    outside = made.step_size * made.gradient / (np.sqrt(g) + made.eps)
    old = made.step_size * made.gradient / np.sqrt(made.g + made.eps)
    assert gradients.judge(outside, made).departing == ["eps"]
    assert gradients.judge(old, made).departing == ["statistics"]
    verdict = gradients.judge(rmsprop(None, made) / made.step_size, made)
    assert np.isclose(verdict.multiple, 1 / made.step_size) and verdict.apart == []


def test_judge__names_adam_with_another_t_or_with_eps_before_the_correction():
    made = gradients.batch("adam")
    for t, name in ((-1, "by t − 1"), (1, "by t + 1")):
        d = adam(made.theta, SimpleNamespace(**(vars(made) | {"t": made.t + t})))
        verdict = gradients.judge(d, made)
        assert verdict.departing == ["bias correction"] and name in verdict.line
    b1, b2, g = made.beta1, made.beta2, made.gradient
    rate = made.step_size * np.sqrt(1 - b2**made.t) / (1 - b1**made.t)  # Kingma & Ba, section 2
    m, v = b1 * made.m + (1 - b1) * g, b2 * made.v + (1 - b2) * g**2
    verdict = gradients.judge(rate * m / (np.sqrt(v) + made.eps), made)
    assert verdict.departing == ["bias correction"] and "ε added to √v" in verdict.line


def test_judge__says_a_multiple_that_is_nearly_1():
    made = gradients.batch("adam")
    verdict = gradients.judge((1 + 1e-6) * gradients.page_gradient(made), made)
    assert "1.000001 times the page's" in verdict.line


def test_referee_gradients__see_targets_of_the_online_network():
    made = gradients.batch("ddpg-critic")
    mu, q = ddpg_models()

    def attached(theta, made):
        q2 = q(theta, made.S2, mu(made.actor, made.S2))[:, 0]
        y = made.r + made.gamma * (1 - made.terminated) * q2
        return ddpg.critic_objective(q(theta, made.S, made.A)[:, 0], y, q.weights(theta), made.l2)

    verdict = gradients.judge(grad(attached)(made.theta, made), made)
    assert verdict.departing == ["error_through_target", "target networks"]
    assert np.isclose(verdict.coefficients["error_through_target"], 1.0)


def test_referee_gradients__see_the_actor_judged_at_stored_actions():
    made = gradients.batch("ddpg-actor")
    mu, q = ddpg_models()
    d_u = grad(lambda u: np.mean(q(made.critic, made.S, u)))(made.A)
    d = grad(lambda theta: np.sum(mu(theta, made.S) * d_u))(made.theta)
    assert gradients.judge(d, made).departing == ["action in ∇_a Q"]


def test_referee_gradients__take_descent_for_what_it_is():
    for made in BATCHES:
        d, sense = gradients.page_gradient(made), gradients.METHODS[made.method].sense
        descends = sense == "descent"
        assert gradients.judge(d if descends else -d, made, descent=True).agrees
        verdict = gradients.judge(-d, made)
        assert not verdict.agrees and "the negative: a" in verdict.line
        assert gradients.judge(0 * d, made).line == "departs: yours is 0 everywhere"


def test_referee_gradients__refuse_what_is_no_gradient():
    d = gradients.page_gradient(A2C)
    nan = np.where(np.arange(52) == 13, np.nan, d)
    for wrong, message in (
        (d[:3], r"\(3,\): must be floats \(52,\)"),
        (d.astype(complex), "complex128"),
        (nan, r"policy.b1\[1\] is nan: must be finite"),
    ):
        with pytest.raises(Unusable, match=message):
            gradients.judge(wrong, A2C)
    for wrong in (("a2d",), ("adam", 0, True), ("reinforce", 0, False, "shared"), ("a2c", -1)):
        with pytest.raises(Unusable):
            gradients.batch(*wrong)


def test_referee_gradients__say_when_less_is_off_than_single_precision_holds():
    noise = np.random.default_rng(0).standard_normal(52)
    d = gradients.page_gradient(A2C)
    verdict = gradients.judge(d + 1e-6 * noise * np.abs(d), A2C)
    assert not verdict.agrees and "is a part in single precision?" in verdict.line
    parts = terms(A2C)
    direction = (
        noise
        - np.array(list(parts.values())).T
        @ np.linalg.lstsq(np.array(list(parts.values())).T, noise, None)[0]
    )
    size = np.linalg.norm(d) / np.linalg.norm(direction)
    slightly = d + 1e-7 * parts["policy"] + 5e-9 * size * direction
    assert "is a part in single precision?" in gradients.judge(slightly, A2C).line
    verdict = gradients.judge(d + 1e-5 * terms(A2C)["entropy"], A2C)
    assert verdict.departing == ["entropy"]
    assert np.isclose(verdict.coefficients["entropy"], 0.01001, 1e-8)


# torch


def unflattened(theta, made):
    return {
        name: theta[x["offset"] : x["offset"] + int(np.prod(x["shape"]))].reshape(x["shape"])
        for name, x in made.layout.items()
    }


def torch_loss(theta, made):
    import torch

    p, weight = unflattened(theta, made), made.weight
    layer = lambda of, x: torch.tanh(x @ p[f"{of}.W1"] + p[f"{of}.b1"]) @ p[f"{of}.W2"]
    pi = torch.distributions.Categorical(logits=layer("policy", made.S) + p["policy.b2"])
    v = (layer("value", made.S) + p["value.b2"])[:, 0]
    beta, c = (0.0, 1.0) if made.method == "reinforce" else (made.beta, made.value_coef)
    time = made.gamma ** made.t.double() if made.method == "reinforce" else 1.0
    gain = time * (made.R - v).detach() * pi.log_prob(made.A) + beta * pi.entropy()
    return (weight * (gain - 0.5 * c * (made.R - v) ** 2)).sum()


def torch_critic(theta, made):
    import torch

    p = unflattened(theta, made)
    hidden = torch.relu(made.S @ p["W1"] + p["b1"])
    hidden = torch.relu(torch.cat([hidden, made.A], 1) @ p["W2"] + p["b2"])
    q, W = (hidden @ p["W3"] + p["b3"])[:, 0], [p[name] for name in ("W1", "W2", "W3")]
    decay = 0.5 * made.l2 * sum((w**2).sum() for w in W)
    return torch.nn.functional.mse_loss(q, made.y) + decay


@pytest.mark.parametrize("method", ["reinforce", "a3c", "a2c", "ddpg-critic"])
def test_referee_gradients__of_torch_agree(method):
    pytest.importorskip("torch")
    loss = torch_critic if method == "ddpg-critic" else torch_loss
    made = gradients.batch(method)
    assert gradients.judge(Asked(loss, framework="torch").gradient(made.theta, made), made).agrees


# files and the command line


ELSEWHERE = """
import json
import numpy as np

def elsewhere(file):
    b = np.load(file)
    meta = json.loads(str(b["meta"]))
    p = {name: b["theta"][x["offset"] :][: int(np.prod(x["shape"]))].reshape(x["shape"])
         for name, x in meta["layout"].items()}
    q = np.tanh(b["S"] @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    g = -2 * (b["y"] - q[np.arange(len(q)), b["A"]])[:, None] * np.eye(3)[b["A"]]
    x = np.tanh(b["S"] @ p["W1"] + p["b1"])
    below = g @ p["W2"].T * (1 - x**2)
    d = dict(W1=b["S"].T @ below, b1=below.sum(0), W2=x.T @ g, b2=g.sum(0))
    return np.concatenate([d[name].ravel() for name in meta["layout"]])

def d(theta, batch): return -batch.gradient
def long(theta, batch): return np.ones(3)
def nan(theta, batch): return theta * np.nan
def changes(theta, batch):
    theta *= 2
    return theta
def writes(theta, batch):
    batch.S[:] = 0
    return theta
def fails(theta, batch): raise KeyError("here")
"""


def command(capsys, *argv):
    status = main(["referee", *argv, "--json"])
    out, err = capsys.readouterr()
    return status, json.loads(out), err.strip()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(ELSEWHERE)
    return tmp_path


def test_referee_gradient_command__judges_what_was_computed_elsewhere(folder, capsys):
    dump = ("dump", "--method", "async-n-step-q", "--seed", "3", "--out", "b.npz")
    assert command(capsys, *dump)[0] == 0
    code = {}
    exec(ELSEWHERE, code)
    d = code["elsewhere"]("b.npz")
    np.save("d.npy", d)
    np.save("half.npy", 0.5 * d)
    status, result, _ = command(capsys, "gradient", "d.npy", "--batch", "b.npz")
    assert status == 0 and result["agrees"] and result["worst"] is None
    assert {"coefficients", "page", "variants", "residual"} <= result.keys()
    status, result, _ = command(capsys, "gradient", "half.npy", "--batch", "b.npz")
    assert status == 1 and np.isclose(result["coefficients"]["error"], 0.5)


@every_batch
def test_referee_gradients__are_the_same_from_a_file(made, tmp_path):
    with open(tmp_path / "b.npz", "wb") as file:
        gradients.save(made, file)
    again = gradients.load(tmp_path / "b.npz")
    assert vars(again).keys() == vars(made).keys()
    assert gradients.judge(gradients.page_gradient(made), again).residual == 0.0


def test_referee_gradient_command__prints_the_verdict_first(folder, capsys):
    np.save("d.npy", -gradients.page_gradient(A2C))
    assert main(["referee", "dump", "--method", "a2c", "--out", "b.npz"]) == 0
    capsys.readouterr()
    assert main(["referee", "gradient", "d.npy", "--batch", "b.npz"]) == 1
    first, head, *rows = capsys.readouterr().out.splitlines()
    assert "descent direction of the loss; the page ascends" in first
    assert head.split() == ["term", "yours", "page"] and rows[0].split() == ["policy", "−1", "1"]
    assert main(["referee", "gradient", "d.npy", "--batch", "b.npz", "--descent"]) == 0


WRONG = {
    "gradient mine.py:d --method a2d": (2, "--method = a2d: no such METHOD; did you mean a2c"),
    "gradient mine.py:d": (2, "missing: --method, or --batch"),
    "gradient mine.py:d --method adam --shared": (2, "trunk = shared: must be separate"),
    "gradient mine.py:d --method adam --seed -1": (2, "seed = -1: must be"),
    "gradient nosuch.py:d --method adam": (2, "FILE = nosuch.py: cannot be imported"),
    "gradient mine.py:e --method adam": (2, "mine.py has no e"),
    "gradient mine.py:long --method adam": (3, "long returns shape (3,): must be (20,)"),
    "gradient mine.py:nan --method adam": (3, "nan returns nan: must be finite"),
    "gradient mine.py:changes --method adam": (3, "changes changes its arguments"),
    "gradient mine.py:writes --method a2c": (3, "writes changes its arguments"),
    "gradient mine.py:fails --method adam": (3, "fails raises KeyError: 'here'"),
    "gradient d.npy --method adam": (2, "D.npy = d.npy: needs --batch"),
    "gradient d.npy --batch mine.py": (2, "mine.py is no batch"),
    "gradient d.npy --batch other.npz": (2, "other.npz is no batch"),
    "gradient d.npy --batch b.npz --method a2c": (2, "the batch in b.npz is of adam"),
    "gradient d.npy --batch b.npz --seed 1": (2, "--batch: has its own --seed"),
    "gradient d.npy --batch short.npz": (2, "m of shape (3,): must be (20,)"),
    "gradient d.npy --batch none.npz": (2, "none.npz: No such file"),
    "gradient long.npy --batch b.npz": (2, "d float64 (3,): must be floats (20,)"),
    "gradient mine.npy --batch b.npz": (2, "mine.npy: is no array"),
    "dump --method adam --out no/b.npz": (2, "--out = no/b.npz: No such file"),
    "dump --method adam": (2, "missing: --out"),
}


@pytest.mark.parametrize("line", WRONG)
def test_referee_gradient_command__says_in_one_line_what_is_wrong(folder, capsys, line):
    made = gradients.batch("adam")
    with open("b.npz", "wb") as file:
        gradients.save(made, file)
    short = dict(np.load("b.npz"))
    np.savez("short.npz", **(short | {"m": np.ones(3)}))
    np.savez("other.npz", a=1)
    np.save("d.npy", made.theta)
    np.save("long.npy", np.ones(3))
    (folder / "mine.npy").write_text(ELSEWHERE)
    status, message = WRONG[line]
    got, result, err = command(capsys, *line.split())
    assert got == status and message in result["error"], result
    assert err == f"npgrad: {result['error']}"


def test_referee_gradient_command__helps_with_every_method(capsys):
    assert main(["referee", "gradient", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in gradients.NAMES) and "theta_target" in text

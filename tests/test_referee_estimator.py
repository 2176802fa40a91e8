"""The referee of estimators: exact expectation, bias and variance, and the name, of anybody's."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms.exact.worlds import chain, garnet
from algorithms.referee import enumerated, estimator
from algorithms.referee.catalogue import LAMBDA, N_STEP, Estimator, batch_catalogue, catalogue
from algorithms.referee.guard import Asked, Unusable
from algorithms.runner.cli import main
from algorithms.runner.referee_estimator import told

SMALL = enumerated.worlds(most=40)  # the five worlds, with episodes of up to three steps or so
TINY = [enumerated.world(chain(), "cut", 2)]  # five episodes, so that triples are few, too
BATCHES = [e for e in batch_catalogue() if e.batch]


def judge(f, **how):
    return estimator.judge(f, how.pop("among", SMALL), **how)


# the user's formulas, written out as sums


def to_go(R, t, gamma):
    return sum(gamma ** (k - t) * R[k] for k in range(t, len(R)))


PAY = {
    "reward_to_go": lambda e, t: to_go(e.R, t, e.gamma),
    "total": lambda e, t: to_go(e.R, 0, e.gamma),
    "total_undiscounted": lambda e, t: to_go(e.R, 0, 1.0),
    "undiscounted_to_go": lambda e, t: to_go(e.R, t, 1.0),
    "one_reward": lambda e, t: e.R[t],
}


def n_steps(e, t, n, c):
    """Σ_{k<n} γ^k R[t+k] + γ^n c v[t+n], the episode's end in place of any later t + n."""
    end = min(t + n, len(e.R))
    return to_go(e.R[:end], t, e.gamma) + (e.gamma**n * c * e.v[end] if end < len(e.R) else 0.0)


def critical(known, e, c):
    """The weights of n-step and λ-returns less v̂ = c v."""
    T, weights = len(e.R), []
    for t in range(T):
        if known.pay in N_STEP:
            G = n_steps(e, t, N_STEP[known.pay], c)
        else:
            lam = LAMBDA[known.pay]
            mixed = [(1 - lam) * lam ** (n - 1) * n_steps(e, t, n, c) for n in range(1, T - t)]
            G = sum(mixed) + lam ** (T - t - 1) * n_steps(e, t, T - t, c)
        weights.append((G - c * e.v[t]) * (e.gamma**t if known.discounted else 1.0))
    return np.array(weights)


def paid(known, episodes):
    """What each step is paid, and all that a mean over a batch is taken of."""
    pay = [np.array([PAY[known.pay](e, t) for t in range(len(e.R))]) for e in episodes]
    return pay, [x[:1] if known.pay.startswith("total") else x for x in pay]


def written(known, episodes):
    """The weights of episodes by a known estimator, in other words than the catalogue's."""
    pay, counted = paid(known, episodes)
    every = []
    for i, (e, x) in enumerate(zip(episodes, pay)):
        T, of = len(e.R), counted if known.batch else [x]
        of = of[:i] + of[i + 1 :] if known.less == "others" else of
        of = np.concatenate(of)
        if known.less == "v":
            x = x - (e.v[0] if known.pay.startswith("total") else e.v)
        elif known.less == "constant":
            x = x - 0.75
        elif known.less != "nothing":
            x = x - sum(of) / len(of)
        if known.less.startswith("normalised"):
            n = len(of) - (known.less == "normalised")
            square = sum((of - sum(of) / len(of)) ** 2)
            x = x / (np.sqrt(square / n) + 1e-8) if n else x * np.nan
        x = x * np.array([e.gamma**t for t in range(T)]) if known.discounted else x
        every.append(x / T if known.over_T else x)
    return every


@pytest.mark.parametrize("known", catalogue(), ids=Estimator.named)
def test_judge__names_each_known_estimator_and_nothing_else(known):
    if known.pay in N_STEP | LAMBDA:
        c, among = 0.4, enumerated.worlds(most=1100)[:2]  # more than five steps
        f = lambda episode: 2.5 * critical(known, episode, c)
    else:
        c, among = 0.75, SMALL[:3]
        f = lambda episode: 2.5 * written(known, [episode])[0]
    found = judge(f, among=among)
    name = known.named((2.5, 2.5 * c))
    assert found.exactly == name and found.distance < 1e-7 and name.endswith(", times 2.5")
    text = told("mine.py:f", found, 0.1)
    assert text.splitlines()[1] == f"it is, exactly: {found.exactly}"


@pytest.mark.parametrize("known", BATCHES, ids=Estimator.named)
def test_judge__names_each_known_estimator_of_a_batch(known):
    """Of three: of two, the s.d. says no more than the difference does."""
    f = lambda episodes: written(known, episodes)
    assert judge(f, among=TINY, batch=3).exactly == known.named()


def test_catalogue__no_two_have_one_name():
    names = [known.named() for known in batch_catalogue()]
    assert len(set(names)) == len(names) > 60


@pytest.mark.parametrize("known", [catalogue()[i] for i in (0, 1, 9)], ids=Estimator.named)
def test_judge__a_loss_and_an_estimate_are_what_their_weights_are(known):
    weights = lambda episode: written(known, [episode])[0]
    loss = lambda log_probs, episode: -np.sum(weights(episode) * log_probs)
    estimate = lambda episode, policy: weights(episode) @ policy.scores[episode.S, episode.A]
    first, *others = [judge(f) for f in (weights, loss, estimate)]
    for other in others:
        assert other.exactly == first.exactly == known.named()
        for ours, theirs in zip(first.worlds, other.worlds):
            np.testing.assert_allclose(theirs[1:], ours[1:], rtol=1e-9, atol=1e-12)


def test_judge__a_loss_is_descended():
    ascended = lambda log_probs, episode: np.sum(log_probs * to_go(episode.R, 0, episode.gamma))
    found = judge(ascended)
    assert found.unbiased_for == "-1 times ∇J" and found.exactly.endswith(", times -1")
    assert not found.unbiased and all(x.cosine < -1 + 1e-9 for x in found.worlds)


@given(st.sampled_from(catalogue()[:8]), st.sampled_from(catalogue()[:8]), st.floats(0.2, 5))
def test_judge__a_mixture_of_two_has_no_name(one, two, c):
    both = lambda episode: one([episode])[0][0] + c * two([episode])[0][0]
    found = judge(both, among=SMALL[1:3])
    assert (found.exactly is None) == (one != two)
    assert one == two or (0 < found.distance < 1 and found.nearest)


# the expectation


@pytest.mark.parametrize(
    "pay, discounted, less, target",
    [
        ("reward_to_go", True, "nothing", "∇J"),
        ("reward_to_go", True, "v", "∇J"),
        ("total", False, "nothing", "∇J"),
        ("total", False, "v", "∇J"),
        ("n=1", True, "nothing", "∇J"),
        ("n=3", True, "nothing", "∇J"),
        ("λ=0.9", True, "nothing", "∇J"),
        ("total_undiscounted", False, "nothing", "∇E ΣR, the gradient of the return without"),
        ("undiscounted_to_go", False, "nothing", "∇E ΣR, the gradient of the return without"),
        ("reward_to_go", False, "nothing", "Σ_s Σ_t Pr(S_t = s) Σ_a ∇π(a|s) q(s, a), where"),
        ("n=1", False, "nothing", "Σ_s Σ_t Pr(S_t = s) Σ_a ∇π(a|s) q(s, a), where"),
        ("one_reward", True, "nothing", None),
    ],
)
def test_judge__says_what_an_estimator_expects(pay, discounted, less, target):
    found = judge(catalogue_of(pay, discounted, less))
    assert found.unbiased == (target == "∇J")
    assert found.unbiased_for is None if target is None else found.unbiased_for.startswith(target)


def catalogue_of(pay, discounted, less):
    (known,) = [e for e in catalogue() if e[:4] == (pay, discounted, less, False)]
    return lambda episode: known([episode])[0].sum(0)  # the second column: v̂ = v


@pytest.mark.parametrize("k", [2, 3])
def test_judge__the_mean_of_a_batch_of_k_costs_one_part_in_k(k):
    """b = the mean of all k returns, an episode's own among them: E ĝ = (1 − 1/k) ∇J. Without its
    own, E ĝ = ∇J."""
    total = lambda e: to_go(e.R, 0, e.gamma)

    def own(episodes):
        b = np.mean([total(e) for e in episodes])
        return [np.full(len(e.R), total(e) - b) for e in episodes]

    def history_alone(episode, history):
        return np.full(len(episode.R), total(episode) - np.mean([total(e) for e in history]))

    found = judge(own, among=TINY, batch=k)
    assert found.unbiased_for == f"{1 - 1 / k:.6g} times ∇J" and not found.unbiased
    found = judge(history_alone, among=TINY, batch=k)
    assert found.unbiased and found.exactly.startswith("the total return G_0 for every t minus its")


def test_judge__weights_that_are_one_number_ascend_that_number():
    """E f Σ_t ∇ln π_t = ∇E f, here against differences of E f in one world."""
    f = lambda episode: np.full(len(episode.R), np.sin(np.sum(episode.R)) + len(episode.R))
    assert judge(f).unbiased_for == "∇E f(τ), f being the weight that all steps of an episode have"

    def expected(theta):
        made = enumerated.world(garnet(0), horizon=3, theta=theta)
        p = [tau.probability for tau in made.study.episodes]
        return np.dot(p, [f(episode)[0] for episode in made.episodes])

    theta, step = np.random.default_rng(0).standard_normal(8), 1e-5
    made = enumerated.world(garnet(0), horizon=3, theta=theta)
    answers = estimator.answered(Asked(f), "weights", made, 1)
    ahead = [expected(theta + step * e) - expected(theta - step * e) for e in np.eye(8)]
    # central differences: rounding 1e-15/1e-5, and a third derivative of about 10 times 1e-10/6
    np.testing.assert_allclose(answers.p @ answers.g, np.array(ahead) / (2 * step), atol=1e-8)


@given(st.integers(0, 2**32 - 1))
def test_answered__is_what_sampling_tends_to(seed):
    """Mean and variance of 4,000 sampled episodes, within 6 standard errors."""
    f = catalogue_of("reward_to_go", True, "nothing")
    made = enumerated.world(garnet(1), horizon=2, seed=seed)
    answers = estimator.answered(Asked(f), "weights", made, 1)
    drawn = np.random.default_rng(seed).choice(len(answers.p), 4000, p=answers.p / answers.p.sum())
    g = answers.g[drawn]
    mean, apart = answers.p @ answers.g, ((answers.g - answers.p @ answers.g) ** 2).sum(1)
    error = np.sqrt(answers.p @ (answers.g - mean) ** 2 / 4000)
    assert (np.abs(g.mean(0) - mean) <= 6 * error + 1e-12).all()
    variance = answers.p @ apart
    spread = np.sqrt(answers.p @ (apart - variance) ** 2 / 4000)
    assert abs(apart[drawn].mean() - variance) <= 6 * spread
    np.testing.assert_allclose(judge(f, among=[made]).worlds[0].variance, variance, rtol=1e-9)


def test_judge__more_batches_than_can_be_enumerated_are_drawn(monkeypatch):
    monkeypatch.setattr(estimator, "SAMPLED", 500)
    total = lambda e: to_go(e.R, 0, e.gamma)

    def others(episodes):
        b = [np.mean([total(e) for j, e in enumerate(episodes) if j != i]) for i in range(5)]
        return [np.full(len(e.R), total(e) - b[i]) for i, e in enumerate(episodes)]

    found = judge(others, among=TINY, batch=5)
    (row,) = found.worlds
    assert found.unbiased and 0 < row.error < 0.2 and row.bias < 3 * row.error
    assert found.notes == ("cut: 500 batches were drawn, since there are too many",)


@pytest.mark.parametrize("k", [2, 3])
def test_judge__a_batch_less_its_others_mean_is_unbiased_where_the_gradient_is_0_too(k):
    """In short episodes of the corridor every return is the same, so that ∇J is 0."""
    others = Estimator("total", less="others", batch=True)
    weights = lambda episodes: [
        np.full(len(e.R), w[0, 0]) for e, w in zip(episodes, others(episodes))
    ]
    corridor, chain = enumerated.worlds(most=8)[:2]
    found = judge(weights, among=[corridor, chain], batch=k)
    assert found.unbiased and found.worlds[0].bias < 1e-12 and np.isnan(found.worlds[0].episodes)
    assert found.notes[0].startswith("npgrad/ShortCorridor-v0: ∇J is 0 here")
    assert not judge(lambda e: e.v * e.gamma - 3 * e.S, among=[corridor, chain]).unbiased


@pytest.mark.parametrize(
    "weights", [lambda e: 0 * e.R, lambda e: e.v * e.gamma, lambda e: 2.0 + 0 * e.R]
)
def test_judge__what_expects_0_has_no_other_name(weights):
    found = judge(weights)
    assert (found.unbiased, found.unbiased_for, found.exactly) == (False, "0", None)


def test_judge__a_loss_may_change_what_it_is_given_in_place():
    torch = pytest.importorskip("torch")

    def loss(log_probs, episode):
        log_probs *= episode.R
        return -log_probs.sum()

    assert judge(loss, framework="torch").exactly == "the reward R[t] alone, without γ^t"
    with pytest.raises(Unusable, match="must return a scalar tensor that depends on its first"):
        judge(lambda log_probs, episode: torch.ones((), requires_grad=True), framework="torch")


def test_judge__torch_functions_as_numpys():
    torch = pytest.importorskip("torch")

    def single(log_probs, episode):
        G, last = torch.zeros(len(episode.R)), 0.0
        for t in reversed(range(len(episode.R))):
            G[t] = last = episode.R[t] + episode.gamma * last
        return -(log_probs * G).sum()

    def weights(episode):
        return torch.flip(torch.cumsum(torch.flip(episode.R, (0,)), 0), (0,))

    assert judge(single, framework="torch").exactly == "reward-to-go G_t, without γ^t"
    found = judge(weights, framework="torch").exactly
    assert found == "undiscounted reward-to-go, without γ^t"
    with pytest.raises(Unusable, match="returns a tensor that requires a gradient"):
        judge(lambda episode: torch.ones(len(episode.R), requires_grad=True), framework="torch")


# bad input

counter = iter(range(10**9))


def mutates(episode):
    episode.R[0] = 3.0
    return episode.R


def remembers(episode):
    return episode.R + next(counter)


BAD = {
    "changes its arguments": mutates,
    "gives two answers to one question": remembers,
    r"returns shape \(\): must be \(\d,\)": lambda episode: 1.0,
    "returns nan for an episode of": lambda episode: episode.R * np.nan,
    "raises AttributeError: rewards: must be among S, A, R": lambda episode: episode.rewards,
    r"\(a, b\): must have parameters \(episode\) or": lambda a, b: a,
    "returns complex numbers: must be real": lambda episode: 1j * episode.R,
    "returns str: must be an array of numbers": lambda episode: "words",
}


@pytest.mark.parametrize("message", BAD)
def test_judge__refuses_what_cannot_be_judged(message):
    with pytest.raises(Unusable, match=message):
        judge(BAD[message])


def test_judge__names_the_episodes_that_have_no_answer():
    whitened = lambda e: (e.R - e.R.mean()) / (e.R.std(ddof=1) + 1e-8)
    found = judge(whitened)
    (note,) = found.notes
    assert note == "npgrad/Chain-v0: it returns nan for an episode of 1 step(s)"
    assert not found.unbiased and np.isnan(found.worlds[1].bias)
    name = "the reward R[t] alone, normalised over the episode (s.d. with T − 1), without γ^t"
    assert found.exactly == name


def test_world__of_too_many_episodes_names_the_limit():
    with pytest.raises(ValueError, match="more than limit = 100000"):
        enumerated.world(garnet(0), horizon=12)
    with pytest.raises(ValueError, match="horizon: must be given"):
        enumerated.world(garnet(0))
    with pytest.raises(ValueError, match=r"theta = array of shape \(3,\): must be \(8,\)"):
        enumerated.world(garnet(0), horizon=2, theta=np.ones(3))


MINE = """
import numpy as np

def rtg(episode):
    G, last = np.zeros(len(episode.R)), 0.0
    for t in reversed(range(len(episode.R))):
        G[t] = last = episode.R[t] + episode.gamma * last
    return G

def endless(episode):
    while True:
        pass
"""


def npgrad(capsys, line):
    capsys.readouterr()
    status = main(line.split())
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def test_command__answers_by_text_json_and_status(here, capsys):
    (here / "mine.py").write_text(MINE)
    line = "referee estimator mine.py:rtg --env npgrad/Chain-v0"
    status, out, err = npgrad(capsys, line)
    assert status == 1 and err == []
    assert out[0].startswith("mine.py:rtg is BIASED: its expectation is Σ_s")
    status, out, _ = npgrad(capsys, line + " --json")
    result = json.loads(out[-1])
    assert status == 1 and not result["unbiased"]
    assert result["exactly"] == "reward-to-go G_t, without γ^t"
    assert {"world", "bias", "cosine", "variance"} <= result["worlds"][0].keys()
    status, out, _ = npgrad(capsys, line.replace("Chain", "ShortCorridor") + " --gamma 0 --json")
    assert status == 0 and json.loads(out[-1])["worlds"][0]["cosine"] is None
    status, out, _ = npgrad(capsys, line + " --gamma 1 --json")
    assert status == 0 and json.loads(out[-1])["unbiased"]


@pytest.mark.parametrize(
    "line, status, message",
    [
        ("mine.py:nobody", 2, "mine.py has no nobody"),
        ("nowhere.py:f", 2, "FILE = nowhere.py: cannot be imported"),
        ("inner.py:f", 2, "no known parent package; must be named as a module"),
        ("mine.py", 2, "FILE:f = mine.py: must be like mine.py:f"),
        ("mine.py:rtg --gamma 2", 2, "--gamma = 2.0: must be in [0, 1]"),
        ("mine.py:rtg --env CartPole-v1", 2, "--env = CartPole-v1: must be a finite MDP"),
        ("mine.py:rtg --env npgrad/RandomWalk19-v0", 2, "--horizon: must be given"),
        ("mine.py:rtg --env npgrad/Garnet0-v0 --horizon 30", 2, "more than limit = 100000; or ju"),
        ("mine.py:rtg --env npgrad/Chain-v0 --theta no.npy", 2, "--theta = no.npy: cannot be read"),
        ("mine.py:rtg --horizon 3", 2, "--horizon: must come with --env"),
        ("mine.py:rtg --framework jax", 2, "jax is not installed: pip install 'jax'"),
        ("mine.py:endless --timeout 0.2", 3, "endless does not end in time (--timeout)"),
    ],
)
def test_command__bad_input_is_one_line(line, status, message, here, capsys):
    if "jax" in line and estimator_has("jax"):
        pytest.skip("jax is installed")
    (here / "mine.py").write_text(MINE)
    (here / "inner.py").write_text("from .other import f")
    found, out, err = npgrad(capsys, f"referee estimator {line}")
    assert (found, out) == (status, []) and len(err) == 1 and message in err[0]


def estimator_has(module):
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def test_asked__takes_lists_of_namespaces():
    ask = Asked(lambda episodes: [2 * e.R for e in episodes])
    given = [SimpleNamespace(R=np.ones(2)), SimpleNamespace(R=np.ones(3))]
    np.testing.assert_array_equal(ask(given, shape=(5,)), 2 * np.ones(5))

"""What README says of the recorded results: `python -m benchmarks.readme` writes it there."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from benchmarks.record import RESULTS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- methods: python -m benchmarks.readme -->", "<!-- methods end -->"


class Method(NamedTuple):
    """A row. races: (results/speed_NAME.json, how its settings begin) of the page beside torch."""

    name: str
    source: str
    page: str
    proof: str
    curve: str
    races: tuple = ()


METHODS = (
    Method("policy-gradient theorem", "Sutton et al. 1999", "policy_gradient_theorem",
           "test_theorem_1__is_the_derivative_of_the_exact_performance", "laboratory_exact.png"),
    Method("REINFORCE, without and with baseline", "Sutton & Barto 2018, §13.3–13.4", "reinforce",
           "test_weights__unbiased_ones_have_the_gradient_as_expectation", "learning.png",
           ("reinforce", "REINFORCE")),
    Method("one-step actor–critic", "Sutton & Barto 2018, §13.5", "actor_critic",
           "test_one_step__expected_update_under_the_exact_v_is_the_policy_gradient",
           "learning.png", ("actor_critic", "actor–critic, one-step")),
    Method("actor–critic with traces, episodic and continuing", "Sutton & Barto 2018, §13.5–13.6",
           "actor_critic", "test_traces__sum_to_the_forward_view", "actor_critic_cartpole.png",
           ("actor_critic", "actor–critic, traces")),
    Method("natural actor–critic", "Kakade 2001; Peters & Schaal 2008", "natural_actor_critic",
           "test_omega__of_all_episodes_is_the_natural_gradient", "natural.png",
           ("natural_actor_critic", "natural actor–critic")),
    Method("TD(λ): accumulating, replacing, dutch", "Sutton & Barto 2018, §12.2, §12.5",
           "td_lambda", "test_train__true_online_is_the_online_lambda_return_algorithm",
           "td_lambda.png"),
    Method("asynchronous Q, Sarsa, n-step Q", "Mnih et al. 2016, S1, S2", "async_q",
           "test_train__finds_the_exact_q_of_a_finite_mdp", "learning.png", ("async_q", "")),
    Method("A3C", "Mnih et al. 2016, S3", "a3c",
           "test_worker__small_steps_sum_to_the_gradients_at_the_start", "learning.png",
           ("a3c", "A3C, one worker")),
    Method("A2C, with GAE", "Mnih et al. 2016, §4", "a2c",
           "test_gradient__with_gae_is_that_of_the_episodic_traces", "learning.png",
           ("a2c", "A2C")),
    Method("DDPG", "Lillicrap et al. 2015, Algorithm 1", "ddpg",
           "test_learn__on_the_regulator_ascends_the_closed_form", "ddpg_pendulum.png",
           ("ddpg", "DDPG, 4")),
)  # fmt: skip


def ratios(races):
    """Return the least and the largest median of torch lean over the page."""
    name, begin = races
    recorded = json.loads((RESULTS / f"speed_{name}.json").read_text())["results"]
    found = [
        ratio[0]
        for setting, race in recorded.items()
        if setting.startswith(begin) and "torch lean" in race["rows"]
        for ratio in race["rows"]["torch lean"]["over"].values()
    ]
    low, high = (f"{x:.1f}" for x in (min(found), max(found)))
    return low if low == high else f"{low} to {high}"


def table():
    """Return the rows of METHODS; the proof is what its test tests, and the law that it states."""
    rows = [
        "| method | source | page | proof | curve | × lean torch |",
        "|---|---|---|---|---|---|",
    ]
    for name, source, page, proof, curve, races in METHODS:
        law = proof.removeprefix("test_").replace("__", ": ").replace("_", " ")
        cells = (
            name,
            f"[{source}](algorithms/SOURCES.md)",
            f"[{page}.py](algorithms/{page}.py)",
            f"[{law}](tests/test_{page}.py)",
            f"[curve](benchmarks/results/{curve})",
            f"[{ratios(races)}](benchmarks/results/speed.md)" if races else "–",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def torch():
    """Return the sentence that says where torch is faster, from the table of results/speed.md."""
    rows = (RESULTS / "speed.md").read_text("utf-8")
    ends = {}
    for axis in ("width", "batch"):
        found = re.findall(rf"^\| {axis} \|.* at about ([\d,]+) \|$", rows, re.MULTILINE)
        double, single = sorted(float(f"{float(x.replace(',', '')):.2g}") for x in found)
        ends[axis] = f"{double:,.0f} (in single precision {single:,.0f})"
    return (
        f"**Where torch is the better choice**: layers wider than about {ends['width']}, "
        f"batches above {ends['batch']}, images, GPUs."
    )


def written(text):
    """Return README's text with the table and the sentence as they are now."""
    part = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    text = part.sub(lambda _: f"{BEGIN}\n{table()}\n{END}", text)
    return re.sub(r"\*\*Where torch is.*?GPUs\.", lambda _: torch(), text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(written(README.read_text("utf-8")), "utf-8")

"""Recommendations: how a model is counted, what is dropped unlearned, and whether winners win."""

import json
import tomllib

import numpy as np
import pandas as pd
import pytest

from jaxwan.commands.recommend import tell_recommendation
from jaxwan.commands.shell import out
from jaxwan.decide.blocks import Other, blocks
from jaxwan.decide.candidates import Candidate, candidates, prune
from jaxwan.decide.recommend import (
    METRICS,
    Blocks,
    Budget,
    budget_of,
    recommend,
    whole_training,
    within,
)
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.model_size import (
    PROXY_FLOOR,
    PROXY_START,
    PROXY_TARGET,
    count_parameters,
    decoder_of,
    model_of,
    scenario_for,
    step_seconds,
)
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.learning.problems import layout_of
from jaxwan.learning.problems.flat import size

LLAMA = {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 22,
         "intermediate_size": 5632, "num_attention_heads": 32, "num_key_value_heads": 4,
         "vocab_size": 32000}  # fmt: skip
KNOWN = [  # counts of the published checkpoints
    (LLAMA, 1_100_048_384),  # TinyLlama 1.1B
    ({**LLAMA, "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008,
      "num_key_value_heads": 32}, 6_738_415_616),  # Llama 2 7B
    ({**LLAMA, "model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32,
      "intermediate_size": 14336, "num_key_value_heads": 8}, 7_241_732_096),  # Mistral 7B
    ({"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24,
      "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2,
      "vocab_size": 151936, "tie_word_embeddings": True}, 494_032_768),  # Qwen 2.5 0.5B
    ({"model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28,
      "intermediate_size": 3072, "num_attention_heads": 16, "num_key_value_heads": 8,
      "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True}, 596_049_920),
    ({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024,
      "vocab_size": 50257}, 124_439_808),
    ({"model_type": "gpt_neox", "hidden_size": 2048, "num_hidden_layers": 16,
      "intermediate_size": 8192, "num_attention_heads": 8, "vocab_size": 50304}, 1_011_781_632),
]  # fmt: skip


@pytest.mark.parametrize(("table", "count"), KNOWN)
def test_known_checkpoints_are_counted_exactly(table, count, tmp_path):
    assert count_parameters(table)[0] == count
    file = tmp_path / "config.json"
    file.write_text(json.dumps(table))
    assert model_of(str(file)).parameters == count


@pytest.mark.parametrize(
    ("text", "problem"),
    [("big", "expected a size"), ("1X", "expected a size"), ("10", "not between 1M and 10T"),
     ("none.json", "no such file"), ('{"hidden_size": 8', "not JSON"), ("[1]", "a table"),
     ('{"model_type": "llama"}', "'hidden_size' is missing"),
     (json.dumps({**LLAMA, "vocab_size": -1}), "vocab_size: expected a whole number"),
     (json.dumps({**LLAMA, "num_experts": 8}), "mixtures of experts"),],
)  # fmt: skip
def test_models_that_cannot_be_read_are_refused(text, problem, tmp_path):
    if text[0] in "{[":
        file = tmp_path / "config.json"
        file.write_text(text)
        text = str(file)
    with pytest.raises(InputError, match=problem):
        model_of(text)


@pytest.mark.parametrize("count", [10**6, 124_439_808, 10**9, 70 * 10**9, 10**13])
def test_the_decoder_has_the_models_size(count):
    shape = decoder_of(count)
    assert abs(size(layout_of("transformer", **shape)) - count) <= shape["width"] / 2


def test_a_step_takes_six_operations_a_parameter_and_token():
    assert step_seconds(10**9, 10**4) == pytest.approx(6e13 / (0.4 * 312e12))


def test_budgets_are_read():
    assert budget_of("$5000") == budget_of("5e3 usd") == Budget(usd=5000.0)
    assert budget_of("2d, $10") == Budget(48.0, 10.0)
    assert budget_of(None) == Budget()
    for wrong in ("5000", "$", "3 weeks", "$0", ","):
        with pytest.raises(InputError, match="expected dollars or a duration"):
            budget_of(wrong)


@pytest.fixture(scope="module")
def scenario():
    base = resolve(Experiment(scenario="llm_scale")).scenario
    return scenario_for(model_of("100M"), 8192, base)


@pytest.fixture(scope="module")
def found(scenario):
    return candidates("aws_regions", scenario)


def timed_of(found, times):
    rows = {one.name: times(one) for one in found}
    return pd.DataFrame({"time": rows, "cost": rows, "energy": rows})


def test_what_need_not_learn_is_dropped_for_its_reason(found):
    """Star is slower than a ring, H saves nothing beyond 20, compression nothing at all."""

    def seconds(one: Candidate) -> float:
        slow = {"sync": 3.0, "diloco": 20.0 / min(one.local_steps, 20)}.get(one.family, 40.0)
        return slow * (1.5 if one.exchange == "star" else 1.0)

    left = prune(found, timed_of(found, seconds), "time", {"time": 19.0})
    assert {one.learning for one in left.plans} == {
        ("sync", 1, "none"), ("diloco", 10, "none"), ("diloco", 20, "none")
    }  # fmt: skip
    assert all(one.exchange == "ring" for one in left.plans)
    learned = {(one.family, one.local_steps) for one in left.plans}
    assert ("diloco", 40) not in learned
    names = {one.name for one in left.plans}
    assert "DiLoCo H=20, uncompressed, ring, outer lr 0.4" in names
    dropped = sum(left.reasons.values())
    assert dropped + sum("outer" not in name for name in names) == len(found)
    assert set(left.reasons) >= {"same learning, slower exchange", "over the budget at best",
                                 "harsher and no better"}  # fmt: skip
    one = prune(found, timed_of(found, seconds), "time", {}, plans=2, programs=2)
    assert len(one.plans) == 2
    assert one.reasons["beyond the plans that are raced"] > 0


def chosen(found, name):
    return next(one.resolved for one in found if one.name == name)


def test_blocks_say_it_in_the_words_of_each_framework(found):
    told = blocks(chosen(found, "DiLoCo H=20, int8, star"), 1000)
    assert 'semi_sync_method = "diloco"\nsync_steps = 20\nshould_quantize = true' in (
        told["torchtitan with torchft"]
    )
    assert "lr=0.7, momentum=0.9, nesterov=True" in told["torchtitan with torchft"]
    assert "--hv.local-steps 20" in told["OpenDiLoCo"]
    assert "--hv.hivemind-compression uniform8bit" in told["OpenDiLoCo"]
    assert "num_rounds=50" in told["Flower"]
    assert "server_learning_rate=0.7, server_momentum=0.9" in told["Flower"]
    streaming = blocks(chosen(found, "Streaming DiLoCo H=40, fp16, ring"), 1000)
    assert "num_fragments = 4\nfragment_sync_delay = 5\nfragment_update_alpha = 0.5" in (
        streaming["torchtitan with torchft"]
    )
    assert "no equal setting" in streaming["OpenDiLoCo"]
    sparse = blocks(chosen(found, "DiLoCo H=20, top 1 %, star"), 1000)
    assert "no equal setting: the topk compressor" in sparse["OpenDiLoCo"]


def test_where_the_choice_cannot_be_said_the_nearest_plan_that_can_is(found):
    names = ("Streaming DiLoCo H=40, uncompressed, ring", "DiLoCo H=20, int8, star",
             "sync, uncompressed, ring")  # fmt: skip
    others = [Other(name, chosen(found, name), f"{place} % slower")
              for place, name in enumerate(names)]  # fmt: skip
    streaming = chosen(found, "Streaming DiLoCo H=40, fp16, ring")
    told = blocks(streaming, 1000, others)
    first = told["torchtitan with torchft"].split("\n")
    assert first[0] == "# no equal setting: the fp16 compressor in torchft"
    assert first[1].endswith("express: Streaming DiLoCo H=40, uncompressed, ring; 0 % slower")
    assert tomllib.loads("\n".join(first))["fault_tolerance"]["num_fragments"] == 4
    assert told["OpenDiLoCo"].split("\n")[1:4] == [
        "# nearest plan it can express: DiLoCo H=20, int8, star; 1 % slower",
        "--total-steps 1000", "--hv.local-steps 20",
    ]  # fmt: skip
    assert "# nearest plan it can express: sync, uncompressed, ring" in told["Flower"]
    part = blocks(streaming, 1000, others[:2])["Flower"].split("\n")
    assert part[1] == "# nearest plan it can express: DiLoCo H=20, int8, star; 1 % slower"
    assert part[2] == "# but for the int8 compressor in Flower; put it into a client mod"
    assert "num_rounds=50" in part[6]
    assert blocks(streaming, 1000)["Flower"] == (
        "# no equal setting: Flower's strategies have no streaming_diloco"
    )


def test_the_jaxwan_block_says_only_what_is_not_usual(found):
    assert blocks(chosen(found, "DiLoCo H=20, int8, star"), 1000)["jaxwan"] == (
        'strategy.kind = "diloco"\nstrategy.local_steps = 20\n'
        'compressor = "int8"\nexchange = "star"'
    )


def test_the_jaxwan_block_is_a_grid_that_resolves_to_the_choice(found, tmp_path):
    from jaxwan.experiment.sweepfile import Sweep

    for one in found:
        text = blocks(one.resolved, 100)["jaxwan"]
        file = tmp_path / "grid.toml"
        file.write_text(f'[grid]\nscenario = "llm_scale"\nchallenge = "aws_regions"\n'
                        f'aggregator = "mean"\n{text}\n')  # fmt: skip
        (again,), _ = Sweep.from_toml(file).resolve()
        assert again.compressor == one.resolved.compressor, one.name
        assert again.exchange == one.resolved.exchange
        assert again.strategy.static == one.resolved.strategy.static
        assert {k: v for k, v in again.strategy.knobs.items() if v is not None} == {
            k: v for k, v in one.resolved.strategy.knobs.items() if v is not None
        }


FLEET = """region,speed,up_bps,down_bps,delay_s,loss,jitter_s,online
north,1.0,1e8,1e8,0.02,0,0.001,true
south,1.0,4e7,4e7,0.1,0,0.002,true
east,0.8,6e7,6e7,0.06,0,0.001,true
"""


def few(*args, **world):
    """Keep the settings that one program times."""
    wanted = (("sync", 1), ("diloco", 20))
    found = candidates(*args, **world)
    return [one for one in found if one.exchange == "ring" and one.learning[:2] in wanted]


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    file = tmp_path_factory.mktemp("fleet") / "fleet.csv"
    file.write_text(FLEET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxwan.decide.recommend.candidates", few)
        return recommend("20M", file, 2.2, "$1000", metric="cost", batch_tokens=4096, most=16,
                         plans=4, programs=2, steps=60, delta=0.1)  # fmt: skip


def test_the_choice_is_confirmed_by_a_fresh_equal_allocation_sweep(answer):
    assert len(answer.plans) == 4
    fresh = Blocks(list(answer.plans.values()), 16)(list(answer.plans.values()), range(16, 32))
    assert set(fresh["seed"]) == set(range(16, 32))
    assert not set(fresh["run_id"]) & set(answer.race.runs["run_id"])
    cost = fresh["cost_usd"].fillna(fresh["cost_usd"].max()).groupby(fresh["strategy"]).mean()
    assert cost[answer.choice] <= 1.1 * cost.min()
    sync = next(name for name in cost.index if name.startswith("sync"))
    assert cost[sync] > 1.1 * cost.min()


def test_a_whole_training_is_scaled_so_that_synchronous_training_takes_its_tokens(answer):
    runs, table = answer.race.runs, answer.table.set_index("setting")
    sync = next(name for name in table.index if name.startswith("sync"))
    rows = runs[runs["strategy"] == sync]
    samples = answer.tokens / 1024
    scale = samples / (rows["samples_per_s"] * rows["time_to_target_s"]).mean()
    for name in table.index:
        own = runs.loc[runs["strategy"] == name, "cost_usd"].mean()
        assert table.loc[name, "usd"] == pytest.approx(own * scale, rel=1e-6)
    assert answer.tokens == 20 * 20_000_000
    assert answer.steps == round(4e8 / (4096 * 3))
    assert answer.choice in answer.sentence
    assert sum(answer.pruned.values()) > 0


def test_the_choice_keeps_within_the_budget(answer):
    names = {name: Candidate(name, "", 1, "none", "star", own)
             for name, own in answer.plans.items()}  # fmt: skip
    top = float(answer.table["usd"].iloc[0])
    asked = {"most": 16, "delta": 0.1, "confidence": 0.95}
    runner = Blocks(list(answer.plans.values()), 16)
    for key, rows in answer.race.runs.groupby("config_id", sort=False):
        runner.found[str(key), 0] = rows
    asked["runner"] = runner
    hours = answer.table["hours"]
    limit = Budget(hours=float(np.sort(hours)[2]))
    slow = answer.table.assign(hours=[float(hours.max()) * 2, *hours.iloc[1:]])
    raced, table = within(answer.race, slow, names, limit, METRICS["cost"], asked)
    assert table["setting"].iloc[0] != answer.choice
    assert not table["over_budget"].iloc[0]
    assert table.loc[table["setting"] == answer.choice, "over_budget"].item()
    assert answer.choice not in raced.best.sentence
    assert len(table) == 4
    assert within(answer.race, answer.table, names, Budget(usd=top * 1.01), METRICS["cost"],
                  asked)[0] is answer.race  # fmt: skip


def test_a_plan_with_few_lucky_runs_has_no_figures_and_no_place_in_the_budget(answer):
    first, second, third, fourth = answer.table["setting"]
    names = {name: Candidate(name, "", 1, "none", "star", own)
             for name, own in answer.plans.items()}  # fmt: skip
    runs = answer.race.runs
    lucky = (runs["strategy"] != first) | (runs["seed"] % 4 == 0)
    runs = runs.assign(reached=runs["reached"] & lucky)
    raced = answer.race._replace(runs=runs.assign(cost_usd=runs["cost_usd"].where(lucky)))
    table = whole_training(raced, names, 1e6)
    assert table.loc[0, ["hours", "usd", "kwh", "usd_lo"]].isna().all()
    assert table.loc[1:, ["hours", "usd", "kwh"]].notna().all(axis=None)
    free = within(raced, table, names, Budget(), METRICS["cost"], {})[1]
    assert free["within_budget"].all()
    top = float(table["usd"].min())
    _, table = within(raced, table, names, Budget(usd=top), METRICS["cost"], {})
    cheapest = table["setting"].iloc[0]
    assert cheapest in (second, third, fourth)
    rows = table.set_index("setting")
    assert not rows.loc[first, ["over_budget", "within_budget"]].any()
    assert list(rows.index[rows["within_budget"]]) == [cheapest]
    assert rows["over_budget"].sum() == 2


def test_the_only_plan_within_the_budget_is_chosen_and_others_are_told_from_it(answer):
    from jaxwan.decide.recommend import _others, _sentence

    table = answer.table.assign(within_budget=[True, True, False, True], over_budget=False)
    table.loc[3, "hours"] = np.nan
    (other,) = _others(answer.race, table, answer.plans, "dearer")
    assert other.name == table["setting"].iloc[1]
    assert " dearer (95 % interval " in other.apart
    alone = table.iloc[::-1].assign(within_budget=[True, False, False, False])
    assert _sentence(answer.race, alone) == (
        f"Use {table['setting'].iloc[3]}: nothing else raced is known to stay within the budget."
    )
    assert _sentence(answer.race, table) == answer.sentence
    nobody = table.assign(within_budget=False)
    assert _sentence(answer.race, nobody).startswith("Nothing raced is known to stay within the")


def test_the_blocks_can_be_read_from_what_is_printed(answer, found):
    other = Other("sync, uncompressed, ring", chosen(found, "sync, uncompressed, ring"),
                  "25× slower (95 % interval 24.3 to 26.1)")  # fmt: skip
    told = blocks(chosen(found, "Streaming DiLoCo H=40, fp16, ring"), 1000, [other])
    shown = answer._replace(blocks=told)
    with out.capture() as printed:
        tell_recommendation(shown)
    parts = dict(part.split("\n", 1) for part in printed.get().split("\n\n") if "\n" in part)
    assert tomllib.loads(parts["jaxwan"])["strategy"] == {
        "kind": "streaming_diloco", "local_steps": 40
    }  # fmt: skip
    assert tomllib.loads(parts["torchtitan with torchft"])["fault_tolerance"]["enable"]
    assert f"\n{told['OpenDiLoCo']}\n" in printed.get()


def test_the_proxy_starts_and_ends_where_the_door_says(answer):
    runs = answer.race.runs
    assert runs["loss_floor"].unique() == pytest.approx([PROXY_FLOOR], abs=0.01)
    assert runs["loss_initial"].mean() == pytest.approx(PROXY_START, abs=0.1)
    assert PROXY_FLOOR < PROXY_TARGET < PROXY_START
    with pytest.raises(InputError, match=r"target: .*floor, 1\.16, and where it starts, 2\.8, got"):
        recommend("1B", target=0.1)


@pytest.mark.parametrize(
    "wrong", [{"metric": "money"}, {"budget": "lots"}, {"target": -1.0}, {"target": 2.9},
              {"most": 1}, {"fleet": "nowhere"}],
)  # fmt: skip
def test_wrong_questions_are_refused_before_anything_runs(wrong):
    with pytest.raises(InputError):
        recommend(**{"model": "1B", **wrong})

"""A synthetic language with known entropy: sparse Markov chains, one per topic.

The vocabulary is split evenly between topics. Within a topic of `size` words the next word is
(word + offset) mod size with one of a few offsets, likelier the earlier it stands in the topic's
list (1/2, 1/4, ...), and a fixed permutation spells words as tokens. So the table of transitions
is as sparse as a list of offsets, the stationary distribution is uniform, and a sequence is a sum
of independent jumps: no loop over time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.core.families import Static
from jaxwan.learning.problems import skew
from jaxwan.learning.problems.problem import Statics, Task

STATIC = {
    "vocabulary": Static(32, "tokens; a multiple of the topics", low=1, high=10**7),
    "context": Static(16, "tokens that are predicted in one sequence", low=1, high=10**6),
    "topics": Static(4, "languages that share no token", low=1, high=1024),
    "branch": Static(4, "tokens that may follow a token", low=1, high=64),
    "batch": Static(4, "sequences in one gradient", low=1, high=65536),
    "held_out": Static(32, "held-out sequences", low=1, high=65536),
}


def topic_size(static: Statics) -> int:
    """Return the tokens of each topic.

    Raises:
        ValueError: for a vocabulary that is no multiple of the topics, or topics below the branch.
    """
    topics, vocabulary, branch = static["topics"], static["vocabulary"], static["branch"]
    if vocabulary % topics or vocabulary // topics < branch:
        raise ValueError(
            f"vocabulary {vocabulary} must split into {topics} topics of at least {branch} tokens"
        )
    return vocabulary // topics


def jump_weights(branch: int) -> jax.Array:
    """Return the probabilities `[branch]` of the offsets: halving, and summing to one."""
    weight = 2.0 ** -jnp.arange(branch, dtype=jnp.float32)
    return weight / jnp.sum(weight)


def sample(
    static: Statics, task: Task, weights: jax.Array, key: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
    """Draw sequences below `key [2]`, their topics by `weights [topic]`.

    Returns tokens `[sequence, context + 1]` and the jumps `[sequence, context]` between them.
    """
    length, size = static["context"], topic_size(static)
    word = keys.words(key, count * (length + 2))
    topic = skew.classes_of(weights, word[:count])
    start = (word[count : 2 * count] % jnp.uint32(size)).astype(jnp.int32)
    jump = skew.classes_of(jump_weights(static["branch"]), word[2 * count :]).reshape(count, length)
    moved = task["offset"][topic[:, None], jump]
    place = jnp.cumsum(jnp.concatenate([start[:, None], moved], axis=1), axis=1) % size
    return task["token"][topic[:, None] * size + place], jump


def make_task(static: Statics) -> dict[str, jax.Array]:
    """Return the language, held-out sequences without skew, their topics and cross-entropy."""
    topics, vocabulary = static["topics"], static["vocabulary"]
    size = topic_size(static)
    key = keys.stream(keys.run_key(0), "markov")
    spelling = jnp.argsort(keys.words(keys.address(key, 0), vocabulary))
    order = keys.words(keys.address(key, 1), vocabulary).reshape(topics, size)
    offset = jnp.argsort(order, axis=1)[:, : static["branch"]]
    task = {"token": spelling.astype(jnp.int32), "offset": offset.astype(jnp.int32)}
    even = jnp.full(topics, 1.0 / topics)
    text, jump = sample(static, task, even, keys.address(key, 2), static["held_out"])
    surprise = -jnp.log(jump_weights(static["branch"]))
    topic = jnp.argsort(spelling)[text[:, 0]].astype(jnp.int32) // size
    return task | {"text": text, "topic": topic, "floor": jnp.mean(surprise[jump])}

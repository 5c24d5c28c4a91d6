"""Chains: a sparse compressor chooses what is sent, a second one shrinks what was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxwan.learning.compressors.base import Compressor, Form, Knobs, Wire

JOINT = "+"
VALUE_BYTES = 4


class Misfit(ValueError):
    """A chain of compressors that do not go together."""


class Link(NamedTuple):
    """A member of a chain, and what the chain calls its settings."""

    member: Compressor
    names: Mapping[str, str]  # the member's own name -> the chain's

    def form(self, form: Form) -> Form:
        """Return what the member knows of the chain's updates."""
        static = {own: form.static[self.names[own]] for own in self.member.static}
        return Form(form.layout, static)

    def knobs(self, knobs: Knobs) -> Knobs:
        """Return the member's own knobs."""
        return {own: knobs[self.names[own]] for own in self.member.knobs}


class Chain(NamedTuple):
    """Two linked compressors as one; its methods are the functions of a `Compressor`."""

    first: Link
    second: Link

    def init(self, form: Form) -> Any:
        """Return the memories of both."""
        return tuple(link.member.init(link.form(form)) for link in self)

    def apply(
        self, form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Keep some entries by the first, then shrink them by the second."""
        sent, after = update, []
        for place, link in enumerate(self):
            luck = jax.random.fold_in(key, place)
            sent, own = link.member.apply(
                link.form(form), link.knobs(knobs), memory[place], luck, sent
            )
            after.append(own)
        return sent, tuple(after)

    def _kept(self, form: Form, knobs: Knobs) -> tuple[Wire, Form]:
        """Return the first one's message, and the kept values as the second one sees them."""
        wire = self.first.member.wire(self.first.form(form), self.first.knobs(knobs))
        return wire, self.second.form(Form(((wire.values,),), form.static))

    def wire(self, form: Form, knobs: Knobs) -> Wire:
        """Charge the first one's positions in whole bytes, and k values of the second."""
        chosen, short = self._kept(form, knobs)
        shrunk = self.second.member.wire(short, self.second.knobs(knobs))
        places = -(-chosen.side_bits // 8) * 8
        return Wire(shrunk.values, shrunk.bits_per_value, shrunk.side_bits + places)

    def pack(self, form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
        """Encode the first one's positions, then the kept values as the second does."""
        chosen, short = self._kept(form, knobs)
        keys = [jax.random.fold_in(key, place) for place in range(2)]
        blob = self.first.member.pack(self.first.form(form), self.first.knobs(knobs), keys[0], sent)
        values = np.frombuffer(blob[len(blob) - VALUE_BYTES * chosen.values :], "<f4")
        shrunk = self.second.member.pack(
            short, self.second.knobs(knobs), keys[1], values.astype(np.float32)
        )
        return blob[: len(blob) - VALUE_BYTES * chosen.values] + shrunk

    def unpack(self, form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
        """Decode the kept values by the second, then their positions by the first."""
        chosen, short = self._kept(form, knobs)
        places = -(-chosen.side_bits // 8)
        values = self.second.member.unpack(short, self.second.knobs(knobs), blob[places:])
        whole = blob[:places] + values.astype("<f4").tobytes()
        return self.first.member.unpack(self.first.form(form), self.first.knobs(knobs), whole)


def linked(first: str, second: str, family: Mapping[str, Compressor]) -> Chain:
    """Link two members; a setting of both gets its member's name in front."""
    own = [{**family[name].knobs, **family[name].static} for name in (first, second)]
    both = set(own[0]) & set(own[1])
    names = [
        {setting: f"{name}_{setting}" if setting in both else setting for setting in settings}
        for name, settings in zip((first, second), own, strict=True)
    ]
    return Chain(Link(family[first], names[0]), Link(family[second], names[1]))


def joined(chain: Chain, what: str) -> dict[str, Any]:
    """Return the knobs or statics of both, by the chain's names."""
    return {
        link.names[own]: fact for link in chain for own, fact in getattr(link.member, what).items()
    }


def chain(first: str, second: str, family: Mapping[str, Compressor]) -> Compressor:
    """Return the compressor that sends what `first` keeps as `second` would.

    Raises:
        Misfit: where `first` keeps all entries or `second` makes something of zeros.
    """
    check(first, second, family)
    links = linked(first, second, family)
    a, b = links.first.member, links.second.member
    papers = [paper for paper in (a.paper, b.paper) if paper]
    return Compressor(
        summary=f"{a.summary[:-1]}, the values by {second}.",
        paper="; ".join(papers),
        knobs=joined(links, "knobs"),
        static=joined(links, "static"),
        init=links.init,
        apply=links.apply,
        wire=links.wire,
        pack=links.pack,
        unpack=links.unpack,
        unbiased=a.unbiased and b.unbiased,
        contractive=a.contractive and b.contractive,
        feedback=a.feedback or b.feedback,
        exact=a.exact and b.exact,
        decay=min(a.decay, b.decay),
    )


def check(first: str, second: str, family: Mapping[str, Compressor]) -> None:
    """Refuse two members that do not go together.

    Raises:
        Misfit: naming what may stand in the place that is wrong.
    """
    fits = {
        "first": (first, [name for name, member in family.items() if member.sparse]),
        "second": (second, [name for name, member in family.items() if member.keeps_zero]),
    }
    for place, (name, allowed) in fits.items():
        if name not in allowed:
            raise Misfit(
                f"{name!r} cannot be the {place} of the chain {first + JOINT + second!r} "
                f"(allowed: {', '.join(allowed)})"
            )


def halves(kind: object) -> tuple[str, str] | None:
    """Return the names of a chain's two members, or None for the name of no chain.

    Raises:
        Misfit: for more than two.
    """
    if not isinstance(kind, str) or JOINT not in kind:
        return None
    names = kind.split(JOINT)
    if len(names) != 2:
        raise Misfit(f"the chain {kind!r} must have two members, like 'topk+int8'")
    return names[0], names[1]


class Chained(dict[str, Compressor]):
    """A family that also has its chains, such as "topk+int8"; they are built when asked for.

    Iteration, length and `|` see the members alone.
    """

    def __init__(self, members: Iterable[tuple[str, Compressor]] | Mapping[str, Compressor]):
        super().__init__(members)
        self._chains: dict[str, Compressor] = {}

    def __missing__(self, kind: str) -> Compressor:
        if kind not in self._chains:
            names = halves(kind)
            if names is None:
                raise KeyError(kind)
            self._chains[kind] = chain(*names, self)
        return self._chains[kind]

    def __contains__(self, kind: object) -> bool:
        if super().__contains__(kind):
            return True
        try:
            return halves(kind) is not None and self[kind] is not None  # type: ignore[index]
        except Misfit:
            return False

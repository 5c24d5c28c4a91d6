"""Kinds of what is built in, by the names they are listed under; nothing here starts JAX."""

from __future__ import annotations

from jaxwan.experiment.errors import InputError, unknown_name
from jaxwan.experiment.files import locate

FILE_OF = {
    "networks": "network",
    "scenarios": "scenario",
    "challenges": "challenge",
    "failures": "failure",
}
FAMILY_OF = {
    "strategies": "strategy",
    "compressors": "compressor",
    "aggregators": "aggregator",
    "pre_aggregators": "pre_aggregator",
    "attacks": "attack",
    "optimizers": "optimizer",
    "problems": "problem",
    "transports": "transport",
    "exchanges": "exchange",
}
KINDS = (*FILE_OF, "devices", "providers", *FAMILY_OF)


def plural(kind: str) -> str:
    """Return the kind as it is listed: network and networks are the same.

    Raises:
        InputError: for a kind that does not exist.
    """
    singular = {family: kinds for kinds, family in FAMILY_OF.items()}
    name = singular.get(kind, kind if kind in KINDS else f"{kind}s")
    if name not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    return name


def check_entry(kind: str, name: str) -> None:
    """Refuse an entry of the catalog that is neither built in nor a file.

    Raises:
        InputError: for such a name, or a kind that does not exist.
    """
    which = plural(kind)
    if which in FILE_OF:
        locate(FILE_OF[which], name)


def check_fields(**names: str | None) -> None:
    """Refuse fields of an experiment whose entries are not there; those without a name pass.

    Raises:
        InputError: at the field.
    """
    for field, name in names.items():
        try:
            if name is not None:
                check_entry(field, name)
        except InputError as error:
            raise error.at(field) from None

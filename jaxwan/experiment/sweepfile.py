"""Sweep: one question, a grid of experiments and the seeds to answer it with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from jaxwan.experiment.choices import Count
from jaxwan.experiment.errors import InputError, shown, unknown_name
from jaxwan.experiment.fanout import Places, fan_table, leaves, nested, overlaid
from jaxwan.experiment.files import beside, built_in, read_toml
from jaxwan.experiment.resolve import resolve_and_warn
from jaxwan.experiment.resolved import Resolved
from jaxwan.experiment.schema import Settings
from jaxwan.experiment.spec import Experiment, origin

FILE_FIELDS = ("scenario", "challenge", "network")
FILE_KEYS = ("seeds", "steps", "grid", "overrides")
SEED_LIMIT = 2**32


def question_of(text: str) -> str:
    """Return the first comment line of a sweep file, without its mark."""
    lines = (line.strip() for line in text.splitlines())
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("#")), "")


def resolved_paths(table: dict[str, Any], base: Path | None) -> dict[str, Any]:
    """Let file names be relative to the sweep file first."""
    out = dict(table)
    for field in FILE_FIELDS:
        name = out.get(field)
        if base is None or not isinstance(name, str) or name in built_in(field):
            continue
        if (base / name).is_file():
            out[field] = str(base / name)
    return out if base is None else beside(out, base)


def placed(error: InputError, places: Mapping[str, str]) -> InputError:
    """Return the error at the place the user wrote it at."""
    place = origin(error.place, places) if error.place else "grid"
    advice = "; overrides never fan out" if place.startswith("overrides") else ""
    return InputError(error.problem + (advice if "got [" in error.problem else ""), place)


def check_seeds(seeds: Any) -> tuple[int, ...]:
    """Return the seeds: a count means 0, 1, …, count - 1.

    Raises:
        InputError: for anything but a count of at least 1 or a list of distinct seeds.
    """
    listed = list(range(seeds)) if type(seeds) is int and 1 <= seeds <= SEED_LIMIT else seeds
    if isinstance(listed, range | tuple):
        listed = list(listed)
    if not isinstance(listed, list) or not listed:
        raise InputError(f"expected a count of at least 1 or a list of seeds, got {shown(seeds)}")
    for index, seed in enumerate(listed):
        if type(seed) is not int or not 0 <= seed < SEED_LIMIT:
            raise InputError(
                f"expected a whole number from 0 to 2**32 - 1, got {shown(seed)}", f"[{index}]"
            )
    if len(set(listed)) < len(listed):
        raise InputError("a seed stands twice")
    return tuple(listed)


class Sweep(Settings):
    """A grid of experiments, each run with every seed.

    Example:
        >>> Sweep(grid={"scenario": "simple", "compressor": ["none", "topk"]}, seeds=8)

    Raises:
        InputError: for anything wrong, in one line that names the place.
    """

    grid: dict[str, Any] = Field(description="a list fans out wherever a scalar is allowed")
    overrides: dict[str, Any] = Field(default={}, description="fixed for the whole sweep")
    seeds: Annotated[Any, BeforeValidator(check_seeds)] = Field(
        default=(0,), description="a count or a list of seeds"
    )
    steps: Count | None = Field(default=None, description="local gradient steps per worker slot")
    question: str = ""
    name: str = "sweep"
    base: Path | None = Field(default=None, description="folder that file names are relative to")
    _runs: tuple[tuple[Experiment, dict[str, Any], Places], ...] = PrivateAttr(())

    @model_validator(mode="after")
    def all_valid(self) -> Sweep:
        self._runs = tuple(self._experiments())
        return self

    @classmethod
    def from_toml(cls, path: str | Path, **changes: Any) -> Sweep:
        """Read a sweep file; `changes` replace its seeds or steps.

        Raises:
            InputError: naming the file and the place in it.
        """
        file = Path(path)
        if not file.is_file():
            raise InputError(f"no such file: {path}")
        table = read_toml(file)
        text = file.read_text(encoding="utf-8")
        facts = {"question": question_of(text), "name": file.stem, "base": file.parent}
        try:
            for key in set(table) - set(FILE_KEYS):
                raise unknown_name("field", key, FILE_KEYS)
            return cls(**table | changes | facts)
        except InputError as error:
            raise InputError(f"{file}: {error}") from None

    def _tables(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], Places]]:
        """Yield the fields, the labels and the places of every experiment."""
        fixed = nested(self.overrides, "overrides")
        steps = {} if self.steps is None else {"steps": self.steps}
        fixed_places = {name: f"overrides.{name}" for name in (*fixed, *leaves(fixed))}
        for table, places in fan_table(nested(self.grid, "grid"), "", "grid"):
            whole = overlaid(overlaid(table, fixed, "overrides"), steps, "")
            yield whole, leaves(table), fixed_places | places

    def _experiments(self) -> Iterator[tuple[Experiment, dict[str, Any], Places]]:
        """Yield every experiment of the grid, validated."""
        if not self.grid:
            raise InputError(
                'is empty; give at least one field, such as scenario = "simple"', "grid"
            )
        for table, labels, places in self._tables():
            try:
                yield Experiment(**resolved_paths(table, self.base)), labels, places
            except InputError as error:
                raise placed(error, places) from None

    def expand(self) -> list[tuple[Experiment, dict[str, Any]]]:
        """Return every experiment with its labels: the swept fields by dotted name."""
        return [(experiment, labels) for experiment, labels, _ in self._runs]

    def resolve(self) -> tuple[list[Resolved], list[str]]:
        """Return every experiment resolved, and the distinct warnings.

        Raises:
            InputError: for settings that do not fit together, naming the place.
        """
        found: list[Resolved] = []
        warnings: dict[str, None] = {}
        for experiment, labels, places in self._runs:
            try:
                resolved, warned = resolve_and_warn(experiment, labels)
            except InputError as error:
                raise placed(error, places) from None
            found.append(resolved)
            warnings |= dict.fromkeys(warned)
        return found, list(warnings)

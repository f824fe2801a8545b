"""Settings of a command from files: ``--config``, ``--save-config`` and ``--like``.

A file names the fields of the settings. Those of the blocks within them (``nuclei:``) stand in
blocks, all others side by side, wherever a command keeps them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin

from pydantic.fields import FieldInfo

from wsi_sampath.cli.options import blocks_of, flag_of, offered, plain_type, read_word, reads
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.settings import (
    Belongs,
    Flags,
    Frozen,
    Help,
    Panel,
    belongs,
    is_file_name,
    is_of_one_slide,
    may_be_file,
    merged,
    nearest_name,
)

if TYPE_CHECKING:
    from wsi_sampath.models.network import LoadedModel

Kinds = Mapping[str, type[Frozen]]
Values = dict[str, Any]
_WITH_THE_MODEL = ("weights", "allow_random_weights")
"""What is said of a model, and means nothing for another one."""
_OF_THE_LINE = ("input", "inputs", "slides", "out", "output", "prompts")
"""What people may look for in a file of settings, and is never there."""
_SHARED_BY = ("gpus", "scheduler")
"""By what a batch is shared, one way or the other; neither is of use for one slide."""


class Repeating(Frozen):
    """Where settings come from beside the command line, and where they are written.

    Attributes
    ----------
    from_files
        Names of the settings that files or an earlier result gave, and the command line did not.
    """

    config: Annotated[
        Path | None,
        *(Panel.REPEAT, Belongs.CALL, Flags(metavar="FILE")),
        Help("Take settings from a YAML file; options given here win."),
    ] = None
    save_config: Annotated[
        Path | None,
        *(Panel.REPEAT, Belongs.CALL, Flags(metavar="FILE")),
        Help("Write the settings of this command line to a YAML file for --config."),
    ] = None
    from_files: Annotated[frozenset[str], Belongs.CALL] = frozenset()

    def save(self, command: str, **settings: Frozen) -> None:
        """Write settings for ``--config``, if that was asked for; see `write_config`."""
        if self.save_config is not None:
            # Imported here, since most commands never write one.
            from wsi_sampath.cli.settings_text import write_config

            write_config(self.save_config, command, settings, self.lost)

    @property
    def lost(self) -> str:
        """What a file written by `save` no longer does, in a sentence, or ""."""
        return ""


class RepeatingResult(Repeating):
    """The same where a result may be repeated.

    Attributes
    ----------
    repeated
        The model of that result, as the result tells of it, where it is to be that one.
    """

    like: Annotated[
        Path | None,
        *(Panel.REPEAT, Belongs.CALL, Flags(metavar="NAME.zarr")),
        Help(
            "Take the settings of this result, but for what belongs to its slide (mpp, image, "
            "region, mask, nuclei) or machine; --config and options given here win."
        ),
    ] = None
    repeated: Annotated[dict[str, str] | None, Belongs.CALL] = None

    @property
    def lost(self) -> str:
        """What a file written by `save` no longer does: to check the model, as ``--like`` does."""
        if self.repeated is None:
            return ""
        made_by = f"its weights had the SHA-256 {self.repeated.get('sha256')}"
        return f"The model is not checked, as --like does; {made_by}."

    def check_model(self, model: LoadedModel) -> None:
        """Refuse to repeat a result with a model that is another by now.

        Raises
        ------
        WsiError
            ``bad-model``.
        """
        # Imported here, since what identifies a run is slow to import.
        from wsi_sampath.inference.durable.identity import specification_digest

        if self.repeated is None:
            return
        if not self.repeated.get("sha256"):
            message = "does not say which weights made it; give --model"
            raise UsageError(message, subject=str(self.like))
        digests = (model.weights_sha256, specification_digest(model.spec))
        if digests != (self.repeated.get("sha256"), self.repeated.get("specification")):
            message = f"is not what {self.like} was made with, it has changed since; give "
            message += "--model FILE to take another, or this one as it is"
            raise WsiError("bad-model", message, subject=model.source)


class Layout:
    """Which field of a command's settings a key of a file means.

    Parameters
    ----------
    kinds
        Settings by the names of the command's parameters.
    """

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self.blocks: dict[str, type[Frozen]] = {}
        self.owners: dict[str, str] = {}
        for owner, kind in self.kinds.items():
            blocks = blocks_of(kind)
            self.blocks |= blocks
            self.owners |= dict.fromkeys(blocks, owner)
        for owner in self.kinds.keys() - self.blocks.keys():
            self.owners |= dict.fromkeys(offered(self.kinds[owner]), owner)

    def field(self, key: str) -> FieldInfo | None:
        """Return the field that a key outside of blocks means, if there is one."""
        if key in self.blocks or key not in self.owners:
            return None
        return self.kinds[self.owners[key]].model_fields[key]

    def flag(self, key: str) -> str:
        """Return the flag of a known key outside of blocks."""
        return flag_of(self.kinds[self.owners[key]], key)

    def checked(self, values: Mapping[Any, Any]) -> Values:
        """Return the values in their own types.

        Raises
        ------
        UsageError
            For a key that is unknown, or belongs on the command line, and for a wrong value.
        """
        return {str(key): self._checked(str(key), value) for key, value in values.items()}

    def by_kind(self, values: Values) -> dict[str, Values]:
        """Return checked values by the names of the command's parameters."""
        found: dict[str, Values] = {}
        for key, value in values.items():
            if key in self.kinds:
                found[key] = value
                continue
            whole = self.blocks[key](**value) if key in self.blocks else value
            found.setdefault(self.owners[key], {})[key] = whole
        return found

    def _checked(self, key: str, value: Any) -> Any:
        if key in self.blocks:
            if not isinstance(value, dict):
                message = f"{key} is a block: give its settings below it, indented"
                # What the option of that name takes.
                meant = self._by_flags().get(key, key)
                hint = f"; a file of {key} is '{meant}'" if meant != key else ""
                raise UsageError(message + hint)
            kind = self.blocks[key]
            for name in value.keys() - kind.model_fields.keys():
                raise UsageError(f"no setting '{key}.{name}'{self._meant(str(name))}")
            return _built(kind, value, f"{key}.")
        field = self.field(key)
        if field is None and key in _OF_THE_LINE:
            raise UsageError(f"no setting '{key}': inputs and --out stay on the command line")
        if field is None:
            raise UsageError(f"no setting '{key}'{self._meant(key)}")
        if belongs(field) is Belongs.CALL:
            raise UsageError(f"{key} is not for a file of settings; give {self.flag(key)} instead")
        return _built(self.kinds[self.owners[key]], {key: value})[key]

    def _meant(self, key: str) -> str:
        """Return the setting that an unknown key is most like, which may be like its flag."""
        names = {name: name for name in self.owners}
        for block, kind in self.blocks.items():
            names |= {name: f"{block}.{name}" for name in kind.model_fields}
        by_flags = self._by_flags().items()
        names |= {flag: names[name] for flag, name in by_flags if flag not in names}
        near = nearest_name(key.replace("-", "_"), names)
        return f"; did you mean '{names[near]}'?" if near else ""

    def _by_flags(self) -> dict[str, str]:
        """Return the names of settings by those of their options, in the same spelling."""
        return {
            flag_of(kind, name).removeprefix("--").replace("-", "_"): name
            for kind in self.kinds.values()
            for name in offered(kind)
        }


def earlier_values(given: Values, said: Collection[str], kinds: Kinds) -> dict[str, Values]:
    """Return the settings that files give, by the names of a command's parameters.

    Parameters
    ----------
    given
        The options, with their defaults.
    said
        Names of those that the command line gives.
    kinds
        The settings of the command, `Repeating` among them.

    Raises
    ------
    UsageError
        For a file that cannot be read, and for a setting in it that is unknown or wrong.
    """
    layout = Layout(kinds)
    config, result = given["config"], given.get("like")
    own = {} if config is None else read_config(config, layout)
    chosen = {*said, *own}
    on_the_line = {name: given[name] for name in said}
    own = _left(own, on_the_line)
    repeating = next(name for name, kind in kinds.items() if issubclass(kind, Repeating))
    if result is None:
        return merged(layout.by_kind(own), {repeating: {"from_files": own.keys() - said}})
    values, model = _read_result(result, layout, chosen)
    values = merged(_left(values, own | on_the_line), own)
    keeps_model = chosen.isdisjoint({"model", *_WITH_THE_MODEL})
    of_run = {"from_files": values.keys() - said, "repeated": model if keeps_model else None}
    return merged(layout.by_kind(values), {repeating: of_run})


def _left(earlier: Values, later: Values) -> Values:
    """Return what remains of earlier settings beside later ones that take them back."""
    taken_back: set[str] = set()
    # What is said last of a model is all that is said of it.
    if "model" in later:
        taken_back |= {"model", *_WITH_THE_MODEL}
    if later.get("geojson") is not None:
        taken_back.add("polygons")
    if later.get("tissue", "otsu") != "otsu":
        taken_back.add("tissue_threshold")
    if later.get("tissue_threshold") is not None and earlier.get("tissue") == "none":
        taken_back.add("tissue")
    if not later.keys().isdisjoint(_SHARED_BY):
        taken_back.update(_SHARED_BY)
    return _without(earlier, taken_back)


def read_config(path: Path, layout: Layout) -> Values:
    """Read the settings of a YAML file, in their own types.

    Raises
    ------
    UsageError
        About the file.
    """
    # Imported here, as below: help need not wait for YAML.
    from wsi_sampath.yaml_files import read_yaml

    try:
        content = read_yaml(path) or {}
        if not isinstance(content, dict):
            raise UsageError("holds no settings (key: value lines)")
        values = {key: _as_said(layout.field(str(key)), content[key]) for key in content}
        checked = layout.checked(values)
        return {k: _found(layout.field(k), checked[k], path.parent) for k in checked}
    except WsiError as error:
        raise UsageError(error.message, subject=str(path)) from None


def _as_said(field: FieldInfo | None, value: Any) -> Any:
    """Return a value of YAML as the command line would have it: words are read alike."""
    if field is not None and isinstance(value, str) and _is_of_several(field):
        return value.replace(",", " ").split()
    if field is None or isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    return read_word(field, str(value)) if plain_type(field) is str or reads(field) else value


def _is_of_several(field: FieldInfo) -> bool:
    """Return whether the command line takes several words for a setting, as X Y W H."""
    return get_origin(plain_type(field)) is tuple and not reads(field)


def _found(field: FieldInfo | None, value: Any, folder: Path) -> Any:
    """Return a value, and a file's name as it is seen from here."""
    if isinstance(value, Path):
        return folder / value
    if field is None or not may_be_file(field) or not isinstance(value, str):
        return value
    return str(folder / value) if is_file_name(field, value, folder) else value


def _read_result(path: Path, layout: Layout, chosen: Collection[str]) -> tuple[Values, Values]:
    """Return what was asked of a result that others may repeat, and which model it was made by."""
    from wsi_sampath.cli.progress import say
    from wsi_sampath.outputs.attributes import read_attributes
    from wsi_sampath.version import __version__

    run = read_attributes(path)
    if run is None and not path.exists():
        raise UsageError("there is no such folder", subject=str(path))
    if run is None and (results := sorted(path.glob("*.zarr"))):
        message = f"holds results; name one of them, such as {results[0]}"
        raise UsageError(message, subject=str(path))
    if run is None or run.get("complete") is not True:
        raise UsageError("is not a complete result of wsi-segment", subject=str(path))
    asked, made, model = run.get("asked"), run.get("settings"), run.get("model")
    if not (isinstance(asked, dict) and isinstance(made, dict) and isinstance(model, dict)):
        message = "does not say what was asked of it; name its settings by options, or --config"
        raise UsageError(message, subject=str(path))
    if run.get("version") != __version__:
        say(f"note: {path} was made by version {run.get('version')}, this is {__version__}")
    of_slide = [
        key
        for key, value in asked.items()
        if (field := layout.field(key)) is not None and is_of_one_slide(field, value)
    ]
    left_out = [layout.flag(key) for key in of_slide if key not in chosen]
    if left_out:
        flags = ", ".join(left_out)
        say(f"note: not taken from {path}, since it belongs to its slide: {flags}")
    # A run on another device would choose another precision.
    taken = _without(asked, of_slide) | {"precision": made.get("precision", "auto")}
    try:
        return layout.checked(taken), model
    except UsageError as error:
        other = run.get("version")
        made_by = f" (made by version {other}, this is {__version__})"
        message = error.message + (made_by if other != __version__ else "")
        raise UsageError(message, subject=str(path)) from None


def _built(kind: type[Frozen], values: Values, block: str = "") -> Values:
    """Return values of settings in their own types."""
    for name, value in values.items():
        # YAML makes true and false also of yes and on; as numbers they would be 1 and 0.
        if isinstance(value, bool) and plain_type(kind.model_fields[name]) is not bool:
            raise UsageError(f"{block}{name} is {str(value).lower()}, and must be another value")
    built = kind.build(values, lambda name: f"{block}{name}")
    return {name: getattr(built, name) for name in values}


def _without(values: Values, names: Collection[str]) -> Values:
    return {name: value for name, value in values.items() if name not in names}

"""Parts are chosen by name, and configured by a frozen dataclass that stands next to each of them."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from worldmodel.plugins import VARIABLE, import_plugins

Part = TypeVar("Part")
PartClass = TypeVar("PartClass", bound=type)

_CONFIG_CLASSES: dict[str, type] = {}


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence for a name that does not exist, with the nearest that do."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"choose from {', '.join(names)}."
    return f"There is no {kind} named {name!r}: {hint}"


class Registry(Generic[Part]):
    """The parts of one kind (encoders, dynamics, …): name → (configuration class, part class)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, tuple[type, Callable[..., Part]]] = {}

    def register(self, name: str, config_class: type) -> Callable[[PartClass], PartClass]:
        """Class decorator. The decorated class is built as ``part(config, **context)``."""

        def decorate(part: PartClass) -> PartClass:
            if name in self._parts:
                raise ValueError(f"A {self.kind} named {name!r} is registered already: choose another name.")
            if any(config_class is known for known, _ in self._parts.values()):
                raise ValueError(
                    f"{config_class.__name__} configures another {self.kind}: derive a class of its own from it."
                )
            self._parts[name] = (config_class, part)
            _CONFIG_CLASSES[f"{self.kind}/{name}"] = config_class
            return part

        return decorate

    def names(self) -> list[str]:
        """Of all parts, other people's included."""
        import_plugins()
        return sorted(self._parts)

    def name(self, config: Any) -> str:
        """The name of the part that ``config`` configures."""
        return next(name for name, (config_class, _) in self._parts.items() if config_class is type(config))

    def config_class(self, name: str) -> type:
        """The class that configures the part called ``name``."""
        if name not in self._parts and name not in self.names():
            raise ValueError(unknown_name(self.kind, name, self._parts))
        return self._parts[name][0]

    def config(self, name: str, **options: Any) -> Any:
        """The configuration of the part called ``name``, with its defaults changed by ``options``."""
        config_class = self.config_class(name)
        check_fields(config_class, options)
        return config_class(**options)

    def read(self, text: str, base: Any = None) -> tuple[str, dict[str, Any]]:
        """A name with options behind commas, as name and options: ``rssm,classes=16``, or ``vicreg,augmentation.noise=0.1``.

        Args:
            base: the configuration whose parts are changed by such a dotted option; None: the part's own default.

        Raises:
            ValueError: an unknown name or option, with the nearest; a value that is not accepted.
        """
        name, *pairs = text.split(",")
        config_class = self.config_class(name)
        options: dict[str, Any] = {}
        for pair in pairs:
            key, _, value = pair.partition("=")
            option, inner, key = key.partition(".")
            if inner:
                present = options.get(option, getattr(base, option, None))
                options[option] = _with_option(config_class, option, present, key, value)
            else:
                options[option] = value_of(config_class, option, value)
        return name, options

    def make(self, config: str | Any, /, *, options: dict[str, Any] | None = None, **context: Any) -> Part:
        """Build a part from its name or its configuration.

        ``context`` is what parts may have to know (dimensions, specs); each is given what its constructor names. Keywords that no
        part of this kind has to know are ``options``, too.

        Raises:
            ValueError: an unknown name or option, with the nearest; or something it must know is not in the context.
        """
        known = {p.name for _, part in self._parts.values() for p in _keywords(part)}
        options = (options or {}) | {name: value for name, value in context.items() if name not in known}
        if isinstance(config, str):
            config = self.config(config, **options)
        elif options:
            check_fields(type(config), options)
            config = dataclasses.replace(config, **options)
        for config_class, part in self._parts.values():
            if type(config) is config_class:
                return part(config, **self._known_to(part, config, context))
        raise ValueError(f"{type(config).__name__} configures no {self.kind}: choose from {', '.join(self.names())}.")

    def needs(self, config: Any) -> list[str]:
        """What the part of this configuration has to know to be built."""
        part = next(part for config_class, part in self._parts.values() if type(config) is config_class)
        return [p.name for p in _keywords(part) if p.default is p.empty]

    def _known_to(self, part: Callable[..., Part], config: Any, context: dict[str, Any]) -> dict[str, Any]:
        missing = [name for name in self.needs(config) if name not in context]
        if missing:
            raise ValueError(
                f"The {self.kind} {self.name(config)!r} has to know {' and '.join(missing)}: add {missing[0]}=…."
            )
        return {p.name: context[p.name] for p in _keywords(part) if p.name in context}


def _keywords(part: Callable[..., Any]) -> list[inspect.Parameter]:
    """What a part's constructor names beside its configuration."""
    return [p for p in inspect.signature(part).parameters.values() if p.kind is p.KEYWORD_ONLY]


def check_words(config: Any) -> None:
    """Raise ValueError where a field that is one of some words (Literal) is another."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        words, kinds = _words_and_kinds(hints[field.name])
        value = getattr(config, field.name)
        if words and value not in words and not isinstance(value, tuple(kinds)):
            raise ValueError(unknown_name(f"{field.name} of {type(config).__name__}", str(value), words))


def _words_and_kinds(hint: Any) -> tuple[list[str], list[type]]:
    """The words (Literal) and the other types that a field takes."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    kinds = typing.get_args(hint) if union else (hint,)
    words = [word for kind in kinds if typing.get_origin(kind) is typing.Literal for word in typing.get_args(kind)]
    return words, [kind for kind in kinds if isinstance(kind, type)]


def check_fields(config_class: type, options: Iterable[str]) -> None:
    """Raise ValueError, naming the nearest field, where an option is none of the configuration's."""
    known = [field.name for field in dataclasses.fields(config_class)]
    for option in options:
        if option not in known:
            raise ValueError(unknown_name(f"option of {config_class.__name__}", option, known))


def config_to_dict(config: Any) -> Any:
    """A configuration as plain dictionaries, lists and scalars, fit for JSON and YAML.

    A registered configuration carries its name under ``kind`` ("dynamics/simnorm"), so that reading it back
    needs no pickle and no import path.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        values = {field.name: config_to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
        kind = next((k for k, c in _CONFIG_CLASSES.items() if c is type(config)), None)
        return {"kind": kind, **values} if kind else values
    if isinstance(config, (tuple, list)):
        return [config_to_dict(value) for value in config]
    if isinstance(config, dict):
        return {name: config_to_dict(value) for name, value in config.items()}
    return config


def unknown_part(kind: str) -> str:
    """One sentence where there is no part of this kind and name (objective/cpc), other people's included; "" where there is."""
    if kind not in _CONFIG_CLASSES:
        import_plugins()
    if kind in _CONFIG_CLASSES:
        return ""
    known = unknown_name("part", kind, _CONFIG_CLASSES)
    return f"{known} A part of your own is found by {VARIABLE}=its_file.py, or imported before."


def first_difference(one: Any, other: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first option that two configurations have different, with both values; its name is ``model.dynamics.units``, say."""
    if one == other:
        return None
    if type(one) is type(other) and dataclasses.is_dataclass(one):
        inner = [
            (f".{field.name}", *(getattr(c, field.name) for c in (one, other))) for field in dataclasses.fields(one)
        ]
    elif isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        inner = [(f".{i}", *pair) for i, pair in enumerate(zip(one, other, strict=True))]
    else:
        return name, one, other
    found = (first_difference(mine, yours, (name + key).removeprefix(".")) for key, mine, yours in inner)
    return next((difference for difference in found if difference), (name, one, other))


def config_from_dict(annotation: Any, data: Any) -> Any:
    """The inverse of ``config_to_dict``; ``annotation`` is the type expected there.

    Raises:
        ValueError: an unknown kind or option, with the nearest known one.
    """
    if isinstance(data, dict) and typing.get_origin(annotation) is dict:
        return data
    if isinstance(data, dict):
        data = dict(data)
        kind = data.pop("kind", None)
        if kind is not None and (sentence := unknown_part(kind)):
            raise ValueError(sentence)
        config_class = _CONFIG_CLASSES[kind] if kind else _dataclass_of(annotation)
        check_fields(config_class, data)
        hints = typing.get_type_hints(config_class)
        return config_class(**{name: config_from_dict(hints[name], value) for name, value in data.items()})
    if isinstance(data, list):
        inner = next((a for a in typing.get_args(annotation) if a is not Ellipsis), Any)
        return tuple(config_from_dict(inner, value) for value in data)
    if annotation is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    return data


def _dataclass_of(annotation: Any) -> type:
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next(option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option))


def _with_option(config_class: type, option: str, present: Any, key: str, text: str) -> Any:
    """The configuration in a field, ``present`` or else the field's default, with an option of its own changed."""
    check_fields(config_class, [option])
    if present is None:
        (field,) = (field for field in dataclasses.fields(config_class) if field.name == option)
        present = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if not dataclasses.is_dataclass(present) or isinstance(present, type):
        raise ValueError(f"{option} of {config_class.__name__} has no option {key!r}: it is {present!r} unless given.")
    option, inner, rest = key.partition(".")
    if not inner:
        return dataclasses.replace(present, **{key: value_of(type(present), key, text)})
    changed = _with_option(type(present), option, getattr(present, option, None), rest, text)
    return dataclasses.replace(present, **{option: changed})


def value_of(config_class: type, option: str, text: str) -> Any:
    """What ``option=text`` says, for a configuration's field that is one of some words, a number, a truth value or a text, or
    several numbers, as in 512x256.

    Raises:
        ValueError: an unknown option, with the nearest, or a value that it does not take.
    """
    check_fields(config_class, [option])
    hint = typing.get_type_hints(config_class)[option]
    if typing.get_origin(hint) is tuple and typing.get_args(hint)[0] in (int, float):
        number = typing.get_args(hint)[0]
        try:
            return tuple(number(part) for part in text.split("x") if text)
        except ValueError:
            raise ValueError(
                f"{option}={text!r} is not accepted: give numbers with x between them, such as 512x256, or nothing."
            ) from None
    words, kinds = _words_and_kinds(hint)
    readers: dict[type, Callable[[str], Any]] = {
        int: int,
        float: float,
        str: str,
        bool: {"yes": True, "no": False}.__getitem__,
    }
    for kind in kinds:
        if kind in readers:
            try:
                return readers[kind](text)
            except (ValueError, KeyError):
                continue
    if text in words:
        return text
    accepted = words or [{"bool": "yes or no"}.get(kind.__name__, kind.__name__) for kind in kinds if kind in readers]
    if not accepted:
        raise ValueError(f"{option} cannot be given in one word: use the command's own option for it.")
    raise ValueError(f"{option}={text!r} is not accepted: give {' or '.join(accepted)}.")

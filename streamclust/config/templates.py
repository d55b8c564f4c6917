"""Models by name: those that the settings name, and those that templates make from streams.

An entry of `models` whose name has a placeholder is a template: `clicks-{tenant}` with the stream
`clicks:{tenant}` stands for one model per matching stream. Only `Models` finds the settings of such
a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, core_schema

from streamclust.config.model import ModelSettings
from streamclust.config.placeholders import (
    MAX_CHARACTERS,
    NamePattern,
    StreamPattern,
    has_placeholder,
)
from streamclust.config.values import ModelName
from streamclust.text import has_control

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

Pattern = TypeVar("Pattern", bound=StreamPattern)

ONLY_TEMPLATES = ("overrides", "discover", "max_models")
"""Settings that a model without a placeholder in its name doesn't have."""


@dataclass(frozen=True)
class Template:
    """One model per stream that matches.

    Parameters
    ----------
    name : NamePattern
        Name of the models.
    settings : KMeansSettings or GaussianMixtureSettings
        Settings of the models; their streams have placeholders.
    streams, encoded : tuple of StreamPattern
        `streams` and `encode.streams` of the settings.
    """

    name: NamePattern
    settings: ModelSettings
    streams: tuple[StreamPattern, ...]
    encoded: tuple[StreamPattern, ...]

    @classmethod
    def of(cls, name: str, settings: ModelSettings) -> Template:
        """Return the template of an entry of the settings.

        Raises
        ------
        ValidationError
            If placeholders are wrong.
        """
        pattern = _parsed(NamePattern, name, (name,))
        known = set(pattern.placeholders)
        streams, encoded = (
            tuple(_parsed(StreamPattern, text, (name, *place)) for text in texts)
            for place, texts in (
                (("streams",), settings.streams),
                (("encode", "streams"), settings.encode.streams),
            )
        )
        for stream in (*streams, *encoded):
            place = (name, "streams") if stream in streams else (name, "encode", "streams")
            for other in set(stream.placeholders) - known:
                reason = (
                    f"{{{other}}} isn't in the name of the model; for braces write {{{{{other}}}}}"
                )
                raise _error(place, stream.text, reason)
            if stream in streams and (missing := known - set(stream.placeholders)):
                reason = f"expected {{{min(missing)}}} in each stream, as in the name of the model"
                raise _error(place, stream.text, reason)
        for key in settings.overrides:
            if not key or has_control(key):
                reason = "no stream has such a value: it is empty or has a control character"
                raise _error((name, "overrides", key), key, reason)
        if len(known) > 1:
            for key in settings.overrides:
                if pattern.match(key) is None:
                    reason = "expected the name of a model, since the name has several placeholders"
                    raise _error((name, "overrides", key), key, reason)
        return cls(pattern, settings, streams, encoded)

    def has(self, name: str) -> bool:
        """Return whether a model has this template, by its name."""
        return len(name) <= MAX_CHARACTERS and self.name.match(name) is not None

    def model_of(self, name: str) -> ModelSettings:
        """Return the settings of a model of this template."""
        values = self.name.match(name)
        if values is None:
            raise KeyError(name)
        key = name if len(values) > 1 else next(iter(values.values()))
        settings = self.settings.overrides.get(key, self.settings)
        streams = tuple(stream.fill(values) for stream in self.streams)
        fields = type(settings).model_fields
        changes: dict[str, Any] = {key: fields[key].default for key in ONLY_TEMPLATES}
        changes["streams"] = streams
        if self.encoded:
            encoded = tuple(stream.fill(values) for stream in self.encoded)
            changes["encode"] = settings.encode.model_copy(update={"streams": encoded})
        return settings.model_copy(update=changes)

    def names_of(self, stream: str) -> Iterator[str]:
        """Yield the name of each model that reads a stream.

        Raises
        ------
        ValueError
            If the stream can't have a model; the text is the reason.
        """
        for pattern in self.streams:
            values = pattern.match(stream)
            if values is None:
                continue
            if has_control(stream):
                raise ValueError("its name has control characters")
            name = self.name.fill(values)
            if len(name) > MAX_CHARACTERS:
                raise ValueError(
                    f"the name of its model would have {len(name):,} characters; the maximum is "
                    f"{MAX_CHARACTERS}"
                )
            yield name


class Models(dict[str, ModelSettings]):
    """The models of the settings, by name.

    The items are the models that the settings name. A look-up (``in``, ``[]`` and `get`) also finds
    the models of templates, whether or not their streams exist.

    Parameters
    ----------
    entries : mapping
        The entries of the settings: models and templates. If two templates have a model of the
        same name, the first template is used.

    Raises
    ------
    ValidationError
        If a template is wrong, or if another model has settings of a template.
    """

    def __init__(self, entries: Mapping[str, ModelSettings]) -> None:
        super().__init__()
        self.entries = dict(entries)
        templates = []
        for name, settings in entries.items():
            if has_placeholder(name):
                templates.append(Template.of(name, settings))
                continue
            for key in ONLY_TEMPLATES:
                if key in settings.model_fields_set:
                    reason = (
                        "only a template has this setting: a model with a placeholder in its name, "
                        f"such as {name}-{{tenant}}"
                    )
                    raise _error((name, key), getattr(settings, key), reason)
            self[name] = settings
        self.templates = tuple(templates)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        entries = handler.generate_schema(Mapping[ModelName, ModelSettings])
        return core_schema.no_info_after_validator_function(cls, entries)

    def reading(self, stream: str) -> Iterator[tuple[str, ModelSettings]]:
        """Yield the name and the settings of each model that reads a stream."""
        for name, settings in self.items():
            if stream in settings.streams:
                yield name, settings
        for template in self.templates:
            with suppress(ValueError):
                for name in template.names_of(stream):
                    if self.template_of(name) is template:
                        yield name, template.model_of(name)

    def template_of(self, name: str) -> Template | None:
        """Return the template of a model; None if the settings name it, or don't have it."""
        if dict.__contains__(self, name):
            return None
        return next((template for template in self.templates if template.has(name)), None)

    def __missing__(self, name: str) -> ModelSettings:
        template = self.template_of(name)
        if template is None:
            raise KeyError(name)
        return template.model_of(name)

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or self.template_of(str(name)) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """Return the settings of a model; `default` without such a model."""
        try:
            return self[name]
        except KeyError:
            return default

    def __bool__(self) -> bool:
        return bool(len(self) or self.templates)


def _parsed(kind: type[Pattern], text: str, place: tuple[str, ...]) -> Pattern:
    try:
        return kind.parse(text)
    except ValueError as error:
        raise _error(place, text, str(error)) from None


def _error(place: tuple[str, ...], value: object, reason: str) -> ValidationError:
    """Return an error of pydantic for a value below `models`."""
    details = InitErrorDetails(
        type="value_error", loc=place, input=value, ctx={"error": ValueError(reason)}
    )
    return ValidationError.from_exception_data("models", [details])

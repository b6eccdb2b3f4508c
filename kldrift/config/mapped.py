"""The base of every mapping of the configuration file."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from kldrift.config.document import suggestion
from kldrift.config.records import key_of
from kldrift.config.values import wanted

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")


class Mapped(BaseModel):
    """A mapping of the file.

    `elsewhere` maps keys that belong somewhere else to the words of their error (expected, remedy). The description of
    a required key completes the sentence "expected …".
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)
    elsewhere: ClassVar[Mapping[str, tuple[str, str]]] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _word_errors(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Self:
        """Word the errors that only the model can explain: unknown keys, missing keys, not a mapping."""
        try:
            return handler(value)  # type: ignore[no-any-return] # the handler of a model gives the model
        except ValidationError as error:
            raise ValidationError.from_exception_data(
                cls.__name__, [cls._worded(dict(details)) for details in error.errors(include_url=False)]
            ) from None

    @classmethod
    def _worded(cls, details: dict[str, Any]) -> InitErrorDetails:
        kind, loc = details["type"], details["loc"]
        worded: PydanticCustomError | str = kind
        if kind.startswith("kldrift"):
            worded = PydanticCustomError(kind, "{expected}", details["ctx"])
        elif kind == "extra_forbidden" and len(loc) == 1:
            worded = cls._unknown(str(loc[0]))
        elif kind == "missing" and len(loc) == 1:
            worded = wanted(str(cls.model_fields[loc[0]].description), "add the key")
        elif kind == "model_type" and not loc:
            keys = ", ".join(list(cls.model_fields)[:4])
            worded = wanted(f"a mapping with keys such as {keys}", "write key: value pairs")
        return InitErrorDetails(type=worded, loc=loc, input=details["input"], ctx=details.get("ctx", {}))

    @classmethod
    def _unknown(cls, key: str) -> PydanticCustomError:
        if key in cls.elsewhere:
            return wanted(*cls.elsewhere[key])
        return wanted("a known key", suggestion(key, list(cls.model_fields), "known keys"), "kldrift_key")

    def to_record(self, record: type[Record], folder: Path, leave: tuple[str, ...] = (), **values: Any) -> Record:
        """Build a record whose fields are named after the keys (see `key_of`).

        Parameters
        ----------
        folder : relative paths are taken from here
        leave : keys that the record does not hold as they are
        values : fields that are not plainly the value of a key

        Raises
        ------
        TypeError
            the record has no field for a key, or there is no value for a field
        """
        named = {key_of(field.name): field for field in fields(record)}
        taken: dict[str, Any] = {}
        for key, value in self:
            field = named.get(key)
            if field is None:
                taken |= {} if key in leave else {key: value}
            elif field.name not in values:
                taken[field.name] = _converted(value, field.type, folder)
        return record(**taken, **values)


def _converted(value: Any, wanted_type: Any, folder: Path) -> Any:
    """Turn a value of the file into one for a record's field of type `wanted_type`, or of that type or None."""
    kinds = get_args(wanted_type) or (wanted_type,)
    if isinstance(value, Mapped):
        record = next(kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind))
        return value.to_record(record, folder)
    if isinstance(value, str) and Path in kinds:
        return folder / value
    return tuple(value) if isinstance(value, list) else value

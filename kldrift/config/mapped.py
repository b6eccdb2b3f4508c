"""The base of every mapping of the configuration file."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from kldrift.config.document import suggestion
from kldrift.config.values import wanted


class Mapped(BaseModel):
    """A mapping of the file.

    `elsewhere` are keys that belong somewhere else (what to say of them: expected, remedy). A required key's
    description is worded so that it completes "expected …".
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)
    elsewhere: ClassVar[Mapping[str, tuple[str, str]]] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _word_errors(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Self:
        """Word the errors that only the model can explain: unknown and missing keys, and no mapping at all."""
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

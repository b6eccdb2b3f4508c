"""The one spelling of a category, whatever the format and the type that a value comes in.

Some tools write 1 as ``1.0`` (pandas, where an integer column has missing values) and true as ``True``. A category is
the text that `canonical` returns. Everything else stands as it is: padded codes (``007``), decimals such as ``1.10``,
powers of ten, upper and lower case.
"""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

#: Integers with nothing but zeros behind the point, without padding.
_WHOLE: Final = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")
_SPELLINGS: Final = {"true": ("True", "TRUE"), "false": ("False", "FALSE"), "0": ("-0",)}
_CANONICAL: Final = {other: text for text, others in _SPELLINGS.items() for other in others}
_BOOLEANS: Final = {"true": "1", "false": "0"}
_EITHER_WAY: Final = {**_BOOLEANS, **{digit: word for word, digit in _BOOLEANS.items()}}

#: What the texts match that `CategoryCodes` may know without having them as keys.
OTHER_SPELLING: Final = r"^-?[0-9]+\.0+$"


def canonical(text: str) -> str:
    """Return the one spelling of a category: ``1`` for ``1.0`` and ``1.00``, ``true`` for ``True`` and ``TRUE``."""
    if text.endswith("0") and (found := _WHOLE.fullmatch(text)) is not None:
        text = found[1]
    return _CANONICAL.get(text, text)


def category_text(value: object) -> str | None:
    """Return the text of a categorical value; None where it is missing, or a list or an object.

    Numbers are written in decimal notation without a trailing ``.0``, booleans as JSON writes them.
    """
    if isinstance(value, str):
        return canonical(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return None
        if value in (float("inf"), -float("inf")):
            return "inf" if value > 0 else "-inf"
        return canonical(format(Decimal(repr(value)), "f"))
    return str(value) if isinstance(value, int) else None


def other_booleans(texts: Iterable[str]) -> tuple[str, ...]:
    """Return 0 and 1 for categories that are booleans, and the other way round; nothing for others."""
    names = dict.fromkeys(map(canonical, texts))
    is_boolean = names.keys() <= _BOOLEANS.keys() or names.keys() <= set(_BOOLEANS.values())
    return tuple(_EITHER_WAY[text] for text in names) if is_boolean else ()


class CategoryCodes(dict[str | None, int]):
    """Codes by the texts of categories, in every spelling: ``codes[text]`` is the code, or that of other texts.

    Where the categories are booleans, 0 and 1 are false and true, and the other way round.

    Parameters
    ----------
    texts : the categories, in order of their codes; stored ones may have any spelling
    other : the code of any other text
    missing : the code of None and of `missing_texts`
    missing_texts : what stands for a missing value; a category of that text remains one
    grows : there may be more categories later, so 0 and 1 are numbers
    """

    def __init__(
        self,
        texts: Sequence[str],
        other: int,
        missing: int,
        missing_texts: Iterable[str] = (),
        grows: bool = False,
    ) -> None:
        super().__init__((text, code) for code, text in enumerate(texts))
        self.other = other
        names: dict[str, int] = {}
        for code, text in enumerate(texts):
            names.setdefault(canonical(text), code)
        if not grows:
            names |= dict(zip(other_booleans(names), names.values(), strict=False))
        for text, code in names.items():
            for spelling in (text, *_SPELLINGS.get(text, ())):
                self.setdefault(spelling, code)
        for text in missing_texts:
            self.setdefault(text, missing)
            self.setdefault(canonical(text), missing)
        self[None] = missing

    def __missing__(self, text: str) -> int:
        return self.get(canonical(text), self.other)


def bare(text: str) -> str:
    """Return a text without what people write differently: case, white space and punctuation."""
    return "".join(char for char in text.casefold() if char.isalnum())

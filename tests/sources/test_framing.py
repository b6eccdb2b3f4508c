"""Where records end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldrift.sources.framing import first_record_end, read_records, records_end


def ends_one_by_one(data: bytes, quoted: bool) -> list[int]:
    """The specification: a record ends at every newline with an even number of quotes before it."""
    return [k + 1 for k, byte in enumerate(data) if byte == 10 and not (quoted and data[:k].count(b'"') % 2)]


@given(st.lists(st.sampled_from([b"a", b'"', b"\n", b","]), max_size=60).map(b"".join), st.booleans())
def test_records_end_at_newlines_with_an_even_number_of_quotes_before(data: bytes, quoted: bool) -> None:
    ends = ends_one_by_one(data, quoted) or [0]
    assert records_end(data, quoted) == ends[-1]
    assert first_record_end(data, quoted) == ends[0]


class _Truncated:
    """A file whose content is replaced after a number of reads."""

    def __init__(self, after: int, then: bytes) -> None:
        self._bytes = (b"x" * 99 + b"\n") * 2000
        self._left = after
        self._then = then

    def available(self, offset: int, n: int) -> int:
        return max(0, min(n, len(self._bytes) - offset))

    def read(self, offset: int, n: int) -> bytes:
        if not self._left:
            self._bytes = self._then
        self._left -= 1
        return self._bytes[offset : offset + n]


@pytest.mark.parametrize("then", [b"", b"short\n", b"y" * 300_000])
def test_a_file_truncated_between_two_reads_yields_no_torn_record(then: bytes) -> None:
    assert read_records(_Truncated(1, then), 0, 1 << 20, quoted=False) == b""
    assert len(read_records(_Truncated(9, then), 0, 1 << 20, quoted=False)) == 200_000

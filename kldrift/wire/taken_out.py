"""Records that are certainly no rows are taken out of bodies before the others are decoded, and put back afterwards.

Kernels find them: a body may hold a million, and to decode one takes a few microseconds.
"""

from dataclasses import dataclass

import numpy as np

from kldrift.records.types import IntArray
from kldrift.wire.tables import Decoding, Table


@dataclass(frozen=True, slots=True)
class TakenOut:
    """The records that were taken out, and what is left.

    Parameters
    ----------
    bodies : of the records that are left
    records : (n_left,) the number that each of them had
    counts : records of each body, those that were taken out included
    rejected, details : of those that were taken out, as in a `Table`
    """

    bodies: list[bytes]
    records: IntArray
    counts: list[int]
    rejected: dict[str, IntArray]
    details: dict[int, str]

    def put_back(self, table: Table) -> Decoding:
        """Return what the bodies were decoded to, together with the records that were taken out of them."""
        rejected = {reason: self.records[at] for reason, at in table.rejected.items()}
        for reason, at in self.rejected.items():
            rejected[reason] = np.sort(np.concatenate([rejected[reason], at])) if reason in rejected else at
        details = {int(self.records[at]): text for at, text in table.details.items()} | self.details
        made = Table(sum(self.counts), table.columns, table.event_ms, table.invalid, rejected, details, table.counts)
        return Decoding(made, self.counts)


def lines_joined(body: bytes, starts: IntArray, stops: IntArray) -> bytes:
    """Return some parts of a body, one on each line."""
    return b"\n".join([body[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)])

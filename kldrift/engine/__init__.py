"""From bytes to stored counts: the intakes decode; the engine's thread counts, commits and evaluates.

`PushIntake` accepts bodies from HTTP and gathers those for the same monitor into one decode, because a bulk decode
costs about the same for one row as for a thousand. `PullIntake` drives one source in a thread of its own.
"""

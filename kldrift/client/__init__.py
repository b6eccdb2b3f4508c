"""Log what a model sees, from its own process, without waiting: the standard library alone.

    from kldrift.client import Client

    client = Client(monitor="loans", url="http://127.0.0.1:9867")
    client.log({"amount": 1200.0, "age": 41, "country": "DE", "latent": [0.1, -0.4]})

`Client.log` copies the row into a bounded buffer and returns. A thread encodes the rows as NDJSON and posts them in
batches, each with an ``Idempotency-Key``, until the daemon has answered: a daemon with a state counts every row once,
whatever happens to connections, and to the daemon. What cannot be sent is counted, and told in the log
``kldrift.client``; the model server never hears of it.

Threads, asyncio and fork (gunicorn with ``--preload``, uvicorn with workers) need nothing special: a child begins with
an empty buffer and a thread of its own, and the rows of the parent stay with the parent. At exit what waits is sent,
for at most `exit_seconds`; where ``atexit`` is not run (``os._exit``, an uncaught SIGTERM, ``multiprocessing``'s
children) call `Client.close` yourself. In asyncio `log` may be called as it is, `flush` and `close` belong in
``asyncio.to_thread``.
"""

from kldrift.client.client import Client

__all__ = ["Client"]

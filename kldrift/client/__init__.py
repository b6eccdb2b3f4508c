"""Log what a model sees from its own process, without waiting. Needs only the standard library.

    from kldrift.client import Client

    client = Client(monitor="loans", url="http://127.0.0.1:9867")
    client.log({"amount": 1200.0, "age": 41, "country": "DE", "latent": [0.1, -0.4]})

`Client.log` copies the row into a bounded buffer and returns. A thread encodes the rows as NDJSON and posts them in
batches, each with an ``Idempotency-Key``, until the daemon has answered: a daemon with a state counts every row once,
whatever happens to the connection or to the daemon. Rows that cannot be sent are counted and reported in the log
``kldrift.client``; the model server is never affected.

Threads, asyncio and fork (gunicorn with ``--preload``, uvicorn with workers) need nothing special: a child starts with
an empty buffer and its own thread, and the rows of the parent stay with the parent. At exit, pending rows are sent for
at most `exit_seconds`. Where ``atexit`` handlers do not run (``os._exit``, an uncaught SIGTERM, children of
``multiprocessing``), call `Client.close` yourself. With asyncio, call `log` directly, but `flush` and `close` through
``asyncio.to_thread``.
"""

from kldrift.client.client import Client

__all__ = ["Client"]

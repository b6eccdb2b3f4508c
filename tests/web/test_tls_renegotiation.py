"""A client cannot make the server do one handshake after another on a connection."""

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

from kldrift.web.app import App
from kldrift.web.serve import WebServer, bind
from kldrift.web.tls import load_context
from tests.web.certificates import Authority
from tests.web.fakes import FakeIngest, FakeReaders
from tests.web.test_serve import run


def test_renegotiation_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    context, _ = load_context(pair.certificate, pair.key, None, None, lambda _: None)
    assert context.options & ssl.OP_NO_RENEGOTIATION  # OpenSSL 3 refuses it by default, OpenSSL 1.1 does not

    async def renegotiated() -> str:
        server = WebServer(App(FakeIngest(), FakeReaders(), lambda *_: None), bind("127.0.0.1", 0), tls=context)
        await server.start()
        try:
            command = [
                shutil.which("openssl") or "openssl",
                "s_client",
                "-connect",
                f"127.0.0.1:{server.port}",
                "-tls1_2",
            ]
            client = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            assert client.stdin is not None
            assert client.stdout is not None
            said = b""
            while b"---\n" not in said or b"Verify return code" not in said:
                said += await client.stdout.read(4096)
            client.stdin.write(b"R\n")  # s_client asks to renegotiate
            await client.stdin.drain()
            said += await client.stdout.read()
            await client.wait()
            return said.decode()
        finally:
            await server.stop()

    said = run(asyncio.wait_for(renegotiated(), 30))
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said

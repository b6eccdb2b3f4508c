"""A load client in a process of its own: keep-alive connections that post a prepared body, bounded in time.

python -m tests.benchmarks.load PORT PATH MEDIA BODY_FILE CONNECTIONS SECONDS
Prints one JSON line: posts, seconds, and the first answer.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Load:
    posts: int
    seconds: float
    answer: str

    @property
    def posts_per_second(self) -> float:
        return self.posts / self.seconds


def post(port: int, path: str, media: str, body: Path, connections: int, seconds: float) -> Load:
    """Run the client in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.benchmarks.load",
            str(port),
            path,
            media,
            str(body),
            str(connections),
            str(seconds),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Load(**json.loads(done.stdout))


def main() -> None:
    port, path, media, body_file, connections, seconds = sys.argv[1:]
    body = Path(body_file).read_bytes()
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Content-Type: {media}",
        f"Content-Length: {len(body)}",
    )
    request = "\r\n".join((*lines, "", "")).encode() + body
    end = time.perf_counter() + float(seconds)
    posts = [0] * int(connections)
    answers: list[bytes] = []

    def run(number: int) -> None:
        with socket.create_connection(("127.0.0.1", int(port))) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(30)
            while time.perf_counter() < end:
                connection.sendall(request)
                answer = read(connection)
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(answer.decode())
                posts[number] += 1
                if not answers:
                    answers.append(answer.split(b"\r\n\r\n", 1)[1])

    started = time.perf_counter()
    threads = [threading.Thread(target=run, args=(number,)) for number in range(int(connections))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if min(posts) == 0:
        sys.exit("a connection got no answer")
    print(json.dumps({"posts": sum(posts), "seconds": took, "answer": answers[0].decode()}))


def read(connection: socket.socket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        piece = connection.recv(65536)
        body += piece
        answer += piece
    return answer


if __name__ == "__main__":
    main()

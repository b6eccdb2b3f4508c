"""Take the pictures in the README from a running demo: ``python -m tests.pictures`` (about a minute).

The demo runs in a pseudo-terminal, so that it draws its table as it does for a user. Once its three drifting features
have a verdict, two of its pages are photographed with Chromium, and the table is saved as SVG.
"""

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, FloatRect, sync_playwright
from rich.console import Console
from rich.text import Text

from tests.conftest import ROOT
from tests.e2e.processes import KLDRIFT, free_port, until

PICTURES = ROOT / "deploy" / "pictures"
FEATURE, OVERVIEW, TERMINAL = (PICTURES / name for name in ("feature.png", "overview.png", "terminal.svg"))

CHROMIUM = "/usr/bin/chromium"

#: Size of the pseudo-terminal.
COLUMNS, ROWS = 100, 40
#: Width of a page and margin below it. A picture has as many pixels: with more, the file is three times as large.
WIDTH, MARGIN = 1000, 16
#: How long the demo goes on after the verdicts, so that the divergences are those of the drift alone.
SETTLED_SECONDS = 30
#: rich's SVG without its web font: GitHub does not load one, and each line has its length anyway.
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""  # noqa: E501 (markup)


class Terminal:
    """What a process writes to its pseudo-terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._descriptor, 65536)
            except OSError:  # how Linux reports that the other end has closed
                return
            self._written += piece

    def screen(self) -> str:
        """What was printed before the live table, and the last table that was drawn whole."""
        text = bytes(self._written).decode(errors="ignore").replace("\r\n", "\n")
        # rich erases line by line, upwards, and then draws the next table
        frames = re.split(r"(?:\r?\x1b\[2K(?:\x1b\[1A)?)+", text)
        return re.sub(r"\x1b\[\?25[lh]", "", frames[0].split("\x1b[?25l")[0] + frames[-2]).strip("\n")


@contextmanager
def demo(port: int) -> Iterator[Terminal]:
    """``kldrift demo`` in a pseudo-terminal."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    running = subprocess.Popen(
        [KLDRIFT, "demo", "--port", str(port)], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    )
    os.close(terminal)
    try:
        yield Terminal(controller)
    finally:
        running.terminate()
        running.wait(15)
        os.close(controller)


def drifting(url: str) -> bool:
    """Whether the three features that drift have a verdict."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/monitors/loans", timeout=5) as answer:
            features = json.load(answer)["features"]
    except OSError:
        return False
    return sum(feature["detected"]["warning"] is True for feature in features) == 3


def photograph(browser: Browser, url: str, path: Path, last: str) -> None:
    """Save a page as PNG, from its top to the end of the element `last`."""
    context = browser.new_context(viewport={"width": WIDTH, "height": 400})
    page = context.new_page()
    page.goto(url)
    box = page.locator(last).bounding_box()
    assert box is not None, last
    clip: FloatRect = {"x": 0, "y": 0, "width": WIDTH, "height": box["y"] + box["height"] + MARGIN}
    page.screenshot(path=path, full_page=True, clip=clip)
    context.close()


def terminal_svg(screen: str) -> str:
    """A terminal that shows this text, with its colours."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen), soft_wrap=True)
    return console.export_svg(title="kldrift demo", code_format=SVG, unique_id="demo")


def main() -> None:
    """Run the demo, wait for its drift, and write the pictures."""
    PICTURES.mkdir(exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with demo(port) as terminal, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        until(lambda: drifting(url), 180, "the drift")
        threading.Event().wait(SETTLED_SECONDS)
        photograph(browser, f"{url}/monitors/loans/feature?name=amount&window=1m&span=15m", FEATURE, ".figures")
        photograph(browser, f"{url}/", OVERVIEW, "main")
        screen = terminal.screen()
        browser.close()
    # the port is that of this run, the folder a temporary one: shown as a user meets them
    shown = re.sub(r"/\S*/kldrift-demo-\w+", "/tmp/kldrift-demo", screen.replace(f":{port}", ":9867"))
    TERMINAL.write_text(terminal_svg(shown))
    for path in (FEATURE, OVERVIEW, TERMINAL):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

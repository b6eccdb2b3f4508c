"""An authority of one's own, by the openssl command."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import absent


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates for 127.0.0.1 into a folder.

    Parameters
    ----------
    folder : made if there is none
    name : what tells authorities apart
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        if shutil.which("openssl") is None:
            absent("openssl")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
        openssl("req", "-x509", *_key(self._pair.key), "-out", self._pair.certificate, "-days", "30", *_subject(name))

    @property
    def certificate(self) -> Path:
        """What those who trust this authority are given."""
        return self._pair.certificate

    def issue(self, name: str, days: int = 30, password: str = "") -> Pair:
        """A new certificate; with negative `days` one that has expired."""
        made = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        openssl("req", *_key(made.key), "-out", request, *_subject(name))
        openssl(
            *("x509", "-req", "-in", request, "-CA", self._pair.certificate, "-CAkey", self._pair.key),
            *("-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", made.certificate),
        )
        if password:
            openssl("ec", "-in", made.key, "-aes256", "-passout", f"pass:{password}", "-out", made.key)
        made.key.chmod(0o600)
        return made


def openssl(*arguments: str | Path) -> str:
    """Run it; what it wrote."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _key(path: Path) -> tuple[str | Path, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path)


def _subject(name: str) -> tuple[str, str]:
    return "-subj", f"/CN={name}"

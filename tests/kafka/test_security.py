"""TLS and SASL with a real broker."""

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kldrift.sources.kafka import KafkaSecurity
from tests.conftest import absent
from tests.kafka.broker import Broker, broker
from tests.kafka.topics import Reader, produce, rows

USER, PASSWORD, KEY_PASSWORD = "us", "hunter2 it is", "key word"


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certify(folder: Path, name: str, *key_options: str) -> None:
    """A key and a certificate for 127.0.0.1, signed by the authority in the folder."""
    request = ["req", "-newkey", "rsa:2048", *key_options, "-keyout", f"{name}.key", "-out", f"{name}.csr"]
    openssl(folder, *request, "-subj", f"/CN={name}")
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1")
    sign = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    openssl(folder, *sign, "-extfile", "extensions", "-out", f"{name}.pem")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a broker's certificate, ours, and secrets in files."""
    if shutil.which("openssl") is None:
        absent("openssl")
    made = tmp_path_factory.mktemp("secrets")
    authority = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2"]
    openssl(made, *authority, "-subj", "/CN=authority")
    openssl(made, *[part.replace("ca.", "other.") for part in authority], "-subj", "/CN=other")
    certify(made, "broker", "-nodes")
    certify(made, "client", "-passout", f"pass:{KEY_PASSWORD}")
    (made / "store.pem").write_text((made / "broker.key").read_text() + (made / "broker.pem").read_text())
    for name, text in {"user": USER, "password": PASSWORD, "wrong": "wrong", "key-password": KEY_PASSWORD}.items():
        (made / name).write_text(text + "\n")
    return made


@pytest.fixture(scope="module")
def secure(kafka_jars: None, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that wants a password and a certificate."""
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    properties = {
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": login,
        "listener.name.secure.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "store.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
    }
    with broker(tmp_path_factory.mktemp("kafka"), properties) as made:
        made.create("t", 2)
        produce(made.address, "t", rows(0, 100), 2)
        yield made


@pytest.fixture
def security(folder: Path) -> KafkaSecurity:
    return KafkaSecurity(
        "sasl_ssl",
        "PLAIN",
        folder / "user",
        folder / "password",
        folder / "ca.pem",
        folder / "client.pem",
        folder / "client.key",
        folder / "key-password",
    )


def read(secure: Broker, security: KafkaSecurity) -> Reader:
    return Reader(f"127.0.0.1:{secure.secure_port}", "t", follow=False, security=security).read_to_end()


def test_a_broker_that_wants_a_certificate_and_a_password(secure: Broker, security: KafkaSecurity) -> None:
    reader = read(secure, security)
    assert reader.failure is None
    assert reader.counts == Counter(range(100))


def test_a_wrong_password(secure: Broker, security: KafkaSecurity, folder: Path) -> None:
    reader = read(secure, replace(security, password_file=folder / "wrong"))
    assert reader.failure is not None
    assert reader.failure.reason == "denied"
    assert PASSWORD not in str(reader.failure)


def test_a_broker_that_the_authority_did_not_sign(secure: Broker, security: KafkaSecurity, folder: Path) -> None:
    reader = read(secure, replace(security, ca=folder / "other.pem"))
    assert reader.failure is not None
    assert reader.failure.reason == "denied"
    assert "certificate verify failed" in str(reader.failure)
    assert reader.total == 0


def test_a_key_whose_password_is_wrong(secure: Broker, security: KafkaSecurity, folder: Path) -> None:
    reader = read(secure, replace(security, key_password_file=folder / "wrong"))
    assert reader.failure is not None
    assert reader.failure.reason == "configuration"
    assert KEY_PASSWORD not in str(reader.failure)

"""TLS and SASL with a real broker."""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import pytest

from kldrift.records.sources import KafkaSecurity
from tests.conftest import absent
from tests.e2e.processes import kldrift
from tests.kafka.broker import Broker, broker
from tests.kafka.topics import Reader, produce, rows

USER, PASSWORD, WRONG, KEY_PASSWORD = "us", "hunter2 it is", "hunter3 it is not", "key word"
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
MECHANISMS = get_args(Mechanism)

CONFIG = """\
sources:
  scores:
    type: kafka
    brokers: ["127.0.0.1:{port}"]
    topic: t
    security:
      protocol: sasl_ssl
      mechanism: SCRAM-SHA-512
      username_file: {folder}/user
      password_file: {folder}/{password}
      ca: {folder}/ca.pem
      certificate: {folder}/client.pem
      key: {folder}/client.key
      key_password_file: {folder}/key-password
monitors:
  m:
    sources: [scores]
    windows: [1h]
    features:
      x: {{kind: numeric, reference: {{edges: [0, 50, 100], counts: [100, 100]}}}}
"""


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
    """An authority, the broker's and our certificate, and secrets in files."""
    if shutil.which("openssl") is None:
        absent("openssl")
    made = tmp_path_factory.mktemp("secrets")
    authority = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2"]
    openssl(made, *authority, "-subj", "/CN=authority")
    openssl(made, *[part.replace("ca.", "other.") for part in authority], "-subj", "/CN=other")
    certify(made, "broker", "-nodes")
    certify(made, "client", "-passout", f"pass:{KEY_PASSWORD}")
    (made / "store.pem").write_text((made / "broker.key").read_text() + (made / "broker.pem").read_text())
    for name, text in {"user": USER, "password": PASSWORD, "wrong": WRONG, "key-password": KEY_PASSWORD}.items():
        (made / name).write_text(text + "\n")
    return made


@pytest.fixture(scope="module")
def secure(kafka_jars: None, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that requires a password and a certificate."""
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    properties = {
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "listener.name.secure.plain.sasl.jaas.config": plain,
        "listener.name.secure.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.secure.scram-sha-512.sasl.jaas.config": scram,
        "listener.name.secure.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "store.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
    }
    with broker(tmp_path_factory.mktemp("kafka"), properties, {USER: PASSWORD}) as made:
        made.create("t", 2)
        produce(made.address, "t", rows(0, 100), 2, first_ms=time.time_ns() // 1_000_000 - 100)
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
    return Reader(f"127.0.0.1:{secure.secure_port}", "t", once=True, security=security).read_to_end()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_broker_that_requires_a_certificate_and_a_password(
    secure: Broker, security: KafkaSecurity, mechanism: Mechanism
) -> None:
    reader = read(secure, replace(security, mechanism=mechanism))
    assert reader.failure is None
    assert reader.counts == Counter(range(100))


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password(secure: Broker, security: KafkaSecurity, folder: Path, mechanism: Mechanism) -> None:
    reader = read(secure, replace(security, mechanism=mechanism, password_file=folder / "wrong"))
    assert reader.failure is not None
    assert reader.failure.reason == "denied"
    assert "scores: the broker refuses us" in str(reader.failure)
    assert WRONG not in str(reader.failure)
    assert reader.total == 0


def test_a_daemon_with_scram_in_its_configuration(secure: Broker, folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "kldrift.yaml"
    config.write_text(CONFIG.format(port=secure.secure_port, folder=folder, password="password"))
    done = kldrift("run", "-c", str(config), "--once")
    assert done.returncode == 0, done.stderr
    assert "100 rows" in done.stdout
    config.write_text(CONFIG.format(port=secure.secure_port, folder=folder, password="wrong"))
    done = kldrift("run", "-c", str(config), "--once")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "scores: the broker refuses us" in said
    assert "check `security` and the access rights" in said
    assert WRONG not in said
    assert "Traceback" not in said


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

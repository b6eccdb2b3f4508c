"""A real Apache Kafka broker (KRaft, one node) on loopback, from its published jars."""

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.conftest import ROOT
from tests.e2e.processes import free_port, until

KAFKA_VERSION = "4.3.0"
LOG4J_VERSION = "2.25.4"
JARS = ROOT / ".cache" / f"kafka-{KAFKA_VERSION}"

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kldrift.tests</groupId>
  <artifactId>broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

# The JIT compiler of a broker that lives for seconds must not take the cores away from what is tested.
_JAVA = ("java", "-Xms256m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


def jars() -> str | None:
    """Fetch the broker's jars by Maven if necessary; return why that is impossible, or None."""
    for command in ("java", "mvn"):
        if shutil.which(command) is None and not (command == "mvn" and (JARS / "complete").exists()):
            return f"{command} (for a Kafka broker)"
    JARS.mkdir(parents=True, exist_ok=True)
    with (JARS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of workers side by side, one fetches them
        if (JARS / "complete").exists():
            return None
        (JARS / "pom.xml").write_text(_POM)
        command = ["mvn", "-q", "-B", "-f", str(JARS / "pom.xml"), _COPY, "-DincludeScope=runtime"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={JARS}"], capture_output=True, text=True, timeout=280, check=False
        )
        if done.returncode:
            return f"org.apache.kafka:kafka_2.13 (mvn: {done.stdout[-300:].strip()})"
        (JARS / "complete").touch()
    return None


@dataclass
class Broker:
    """A node that can be stopped and started again on the same log."""

    folder: Path
    port: int
    controller_port: int
    secure_port: int
    properties: dict[str, str]
    users: dict[str, str]
    running: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "broker.log"

    def format(self) -> None:
        """Write the properties and prepare the log folder."""
        listeners = f"PLAINTEXT://{self.address}"
        if self.properties:
            listeners += f",SECURE://127.0.0.1:{self.secure_port}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": listeners,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
            "log.dirs": str(self.folder / "log"),
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            "log.retention.ms": "-1",  # records have times of 1970, which retention would delete 30 s after the start
            "broker.session.timeout.ms": "2000",  # a start after a kill waits for this
            "broker.heartbeat.interval.ms": "500",
            **self.properties,
        }
        text = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self.folder / "server.properties").write_text(text)
        options = ["-t", "a2xkcmlmdC10ZXN0cy0tMA", "-c", str(self.folder / "server.properties")]
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            for user, password in self.users.items():
                options += ["--add-scram", f"{mechanism}=[name={user},password={password}]"]
        self._java("kafka.tools.StorageTool", "format", *options)

    def start(self) -> None:
        """Start the node and wait until it answers."""
        with self.log.open("ab") as log:
            size = log.tell()
            self.running = subprocess.Popen(
                self._command("kafka.Kafka", str(self.folder / "server.properties")),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                start_new_session=True,
            )

        def answers() -> bool:
            assert self.running is not None
            assert self.running.poll() is None, f"the broker ended:\n{self.log.read_text()[-4000:]}"
            return b"Kafka Server started" in self.log.read_bytes()[size:]

        until(answers, 60, "the broker's start")

    def stop(self, kill: bool = False) -> None:
        """Stop the node, in order or like a power cut."""
        if self.running is None:
            return
        if kill:
            self.running.kill()
        else:
            self.running.terminate()
        try:
            self.running.wait(30)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait()
        self.running = None

    def create(self, topic: str, partitions: int, **config: str) -> None:
        """Create a topic and wait until its partitions have leaders."""
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
        try:
            admin.create_topics([new])[topic].result(30)
        except KafkaException as error:  # on a busy machine the client asks again before the first answer comes
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

        def led() -> bool:
            try:
                found = admin.list_topics(topic, timeout=5).topics[topic]
            except KafkaException:
                return False
            return len(found.partitions) == partitions and all(p.leader == 1 for p in found.partitions.values())

        until(led, 30, "leaders")

    def _command(self, main: str, *arguments: str) -> list[str]:
        return [*_JAVA, "-cp", f"{self.folder}:{JARS}/*", main, *arguments]

    def _java(self, main: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(main, *arguments), capture_output=True, text=True, cwd=self.folder, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


_LOG4J = """Configuration:
  status: warn
  Appenders: {Console: {name: out, PatternLayout: {pattern: "%d %p %c %m%n"}}}
  Loggers: {Root: {level: info, AppenderRef: {ref: out}}}
"""


@contextmanager
def broker(folder: Path, secure: dict[str, str] | None = None, users: dict[str, str] | None = None) -> Iterator[Broker]:
    """A fresh node; the jars have to be there. With `secure`, properties of the server, it listens for SASL_SSL too.

    `users` are those of SCRAM, with their passwords.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log4j2.yaml").write_text(_LOG4J)
    made = Broker(folder, free_port(), free_port(), free_port(), secure or {}, users or {})
    made.format()
    try:
        made.start()
        yield made
    finally:
        made.stop()

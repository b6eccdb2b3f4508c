"""What a valid file becomes."""

import glob
import re
from pathlib import Path
from typing import Any

import pytest

from kldrift.config.load import load_config, parse_config
from kldrift.config.records import Address, AuthConfig, EngineConfig, LogConfig, ServerConfig, TlsConfig
from kldrift.config.schema import json_schema
from kldrift.config.values import milliseconds
from kldrift.errors import ConfigError
from kldrift.records.sources import (
    Distribution,
    FileSourceConfig,
    KafkaSecurity,
    KafkaSourceConfig,
    StdinSourceConfig,
    SyntheticSourceConfig,
)
from kldrift.records.specs import (
    Bins,
    FeatureSpec,
    MonitorSpec,
    ReferenceData,
    ReferenceFamily,
    ReferenceFile,
    ReferenceInline,
    ReferenceLearn,
    ReferencePrevious,
    SegmentSpec,
    Smoothing,
    TimestampSpec,
    WindowSpec,
)
from kldrift.records.texts import duration_text

ROOT = Path(__file__).parents[2]
HERE = Path("/etc/kldrift/kldrift.yaml")

#: The file of the contract; both of its sources are used.
CONTRACT = """
server:
  listen: 127.0.0.1:9867
engine:
  tick: 10s
  threads: auto
sources:
  scores: {type: kafka, brokers: [localhost:9092], topic: scores, group: kldrift, format: ndjson}
  files:  {type: file, path: data/*.ndjson, format: ndjson, follow: true}
monitors:
  loans:
    sources: [scores, files]
    timestamp: {field: ts, unit: iso8601}
    allowed_lateness: 1m
    windows: [5m, 1h, 24h]
    reference: {data: reference/loans.parquet}
    segments: {by: country, limit: 20}
    smoothing: jeffreys
    divergences: [kl, reverse_kl, js, psi]
    drift: {confidence: 0.9999, warning: 0.01, critical: 0.1}
    features:
      amount:  {kind: numeric}
      age:     {kind: numeric, bins: {method: uniform, count: 20, range: [0, 100]}}
      risk:    {kind: numeric, bins: {edges: [0, 0.2, 0.5, 1]}}
      country: {kind: categorical, max_categories: 50}
      latent:  {kind: vector, dimensions: 32, reference: {family: normal, mean: 0, std: 1}}
      noise:   {kind: numeric, reference: {family: normal, fit: reference/loans.parquet}}
      coin:    {kind: categorical, reference: {probabilities: {heads: 0.5, tails: 0.5}}}
      plan:    {kind: categorical, reference: {counts: {free: 9120, pro: 830, team: 50}}}
      grade:   {kind: numeric, reference: {edges: [0, 1, 2, 4], counts: [500, 300, 200]}}
"""


def monitor(lines: str = "", features: str = "x: {kind: numeric}", reference: str = "{data: a.csv}") -> MonitorSpec:
    text = f"monitors:\n  m:\n    reference: {reference}\n    {lines}\n    features:\n      {features}\n"
    return parse_config(text, HERE).monitors[0]


def source(line: str):
    text = CONTRACT.replace("[scores, files]", "[scores, files, s]").replace("monitors:", f"  s: {line}\nmonitors:")
    return parse_config(text, HERE).sources[-1]


def test_the_file_of_the_contract() -> None:
    config = parse_config(CONTRACT, HERE)
    assert config.server == ServerConfig(
        listen=Address("127.0.0.1", 9867),
        insecure=False,
        max_body_bytes=2**24,
        max_expanded_bytes=2**26,
        max_connections=4096,
        max_client_connections=1024,
        max_client_pending_bytes=None,
        header_timeout_ms=10_000,
        body_timeout_ms=30_000,
        idle_timeout_ms=75_000,
        write_timeout_ms=30_000,
        tls=None,
        auth=None,
    )
    assert config.engine == EngineConfig(tick_ms=10_000, threads=None, queue_bytes=256_000_000)
    assert config.log == LogConfig(format="logfmt", level="info")
    assert config.sources == (
        KafkaSourceConfig("scores", ("localhost:9092",), "scores", "kldrift", "ndjson", "earliest"),
        FileSourceConfig("files", "/etc/kldrift/data/*.ndjson", "ndjson", True),
    )
    assert config.monitors == (
        MonitorSpec(
            name="loans",
            features=(
                FeatureSpec("amount", "numeric"),
                FeatureSpec("age", "numeric", Bins("uniform", 20, (0.0, 100.0))),
                FeatureSpec("risk", "numeric", Bins("edges", edges=(0.0, 0.2, 0.5, 1.0))),
                FeatureSpec("country", "categorical", max_categories=50),
                FeatureSpec(
                    "latent",
                    "vector",
                    reference=ReferenceFamily("normal", (("mean", 0.0), ("std", 1.0))),
                    dimensions=32,
                ),
                FeatureSpec(
                    "noise",
                    "numeric",
                    reference=ReferenceFamily("normal", fit=Path("/etc/kldrift/reference/loans.parquet")),
                ),
                FeatureSpec(
                    "coin",
                    "categorical",
                    reference=ReferenceInline(categories=("heads", "tails"), probabilities=(0.5, 0.5)),
                ),
                FeatureSpec(
                    "plan",
                    "categorical",
                    reference=ReferenceInline(categories=("free", "pro", "team"), counts=(9120, 830, 50)),
                ),
                FeatureSpec(
                    "grade",
                    "numeric",
                    reference=ReferenceInline(edges=(0.0, 1.0, 2.0, 4.0), counts=(500, 300, 200)),
                ),
            ),
            windows=(WindowSpec("5m", 300_000), WindowSpec("1h", 3_600_000), WindowSpec("24h", 86_400_000)),
            reference=ReferenceData(Path("/etc/kldrift/reference/loans.parquet")),
            sources=("scores", "files"),
            timestamp=TimestampSpec("ts", "iso8601"),
            allowed_lateness_ms=60_000,
            smoothing=Smoothing("jeffreys", 0.5, 0.0),
            divergences=("kl", "reverse_kl", "js", "psi"),
            segments=SegmentSpec("country", 20),
            estimator="kldrift",
            confidence=0.9999,
            correction="bh",
        ),
    )
    assert config.warnings == ()


def test_defaults_of_a_monitor() -> None:
    assert monitor() == MonitorSpec(
        name="m",
        features=(FeatureSpec("x", "numeric", Bins(), 100, None, 0.01, 0.1),),
        windows=(WindowSpec("5m", 300_000), WindowSpec("1h", 3_600_000), WindowSpec("24h", 86_400_000)),
        reference=ReferenceData(Path("/etc/kldrift/a.csv")),
        divergences=("kl", "psi"),
    )


def test_records_are_hashable_and_frozen() -> None:
    spec = monitor()
    assert hash(spec) == hash(monitor())
    with pytest.raises(AttributeError):
        spec.name = "other"


@pytest.mark.parametrize(
    ("written", "smoothing"),
    [
        ("jeffreys", Smoothing("jeffreys", 0.5, 0.0)),
        ("laplace", Smoothing("laplace", 1.0, 0.0)),
        ("none", Smoothing("none", 0.0, 0.0)),
        ("{epsilon: 1e-4}", Smoothing("epsilon", 0.0, 1e-4)),
    ],
)
def test_smoothing(written: str, smoothing: Smoothing) -> None:
    assert monitor(f"smoothing: {written}").smoothing == smoothing


@pytest.mark.parametrize(
    ("written", "bins"),
    [
        ("{}", Bins()),
        ("{method: discrete}", Bins("discrete")),
        ("{probabilities: [0.1, 0.5]}", Bins("quantile", probabilities=(0.1, 0.5))),
        ("{method: quantile, range: [0, 9]}", Bins("quantile", value_range=(0.0, 9.0))),
        ("{method: uniform}", Bins("uniform")),
        ("{method: logarithmic, count: 5, range: [.5, 1e3]}", Bins("logarithmic", 5, (0.5, 1000.0))),
        ("{edges: [-.inf, 0, .inf]}", Bins("edges", edges=(float("-inf"), 0.0, float("inf")))),
    ],
)
def test_bins(written: str, bins: Bins) -> None:
    assert monitor(features=f"x: {{kind: numeric, bins: {written}}}").features[0].bins == bins


def test_kl_is_always_there_and_divergences_have_one_order() -> None:
    assert monitor("divergences: []").divergences == ("kl",)
    assert monitor("divergences: [psi, js]").divergences == ("kl", "js", "psi")


def test_tolerances_of_a_feature_override_those_of_the_monitor_one_by_one() -> None:
    spec = monitor(
        "drift: {warning: 0.02, critical: 0.2}",
        "{a: {kind: numeric}, b: {kind: numeric, drift: {critical: 0.5}}, c: {kind: numeric, drift: {warning: 0.1}}}",
    )
    assert [(f.warning, f.critical) for f in spec.features] == [(0.02, 0.2), (0.02, 0.5), (0.1, 0.2)]


def test_references_may_be_files_and_a_feature_overrides_the_monitor() -> None:
    spec = monitor(reference="{file: ref.json}", features="x: {kind: numeric, reference: {data: /abs/x.csv}}")
    assert spec.reference == ReferenceFile(Path("/etc/kldrift/ref.json"))
    assert spec.features[0].reference == ReferenceData(Path("/abs/x.csv"))


@pytest.mark.parametrize(
    ("written", "reference"),
    [
        ("{learn: 64}", ReferenceLearn(64)),
        ("{learn: 10000000}", ReferenceLearn(10_000_000)),
        ("{previous: 7d}", ReferencePrevious(604_800_000, 10_000)),
        ("{previous: 1h30m, learn: 500}", ReferencePrevious(5_400_000, 500)),
        ("{previous: 1d, data: /x.csv}", ReferencePrevious(86_400_000, bins=ReferenceData(Path("/x.csv")))),
        ("{previous: 1d, file: x.json}", ReferencePrevious(86_400_000, bins=ReferenceFile(HERE.parent / "x.json"))),
    ],
)
def test_references_that_move_or_are_learned_of_a_monitor_and_of_a_feature(
    written: str, reference: ReferenceLearn | ReferencePrevious
) -> None:
    assert monitor(reference=written).reference == reference
    assert monitor(features=f"x: {{kind: numeric, reference: {written}}}").features[0].reference == reference


@pytest.mark.parametrize(
    ("kind", "written", "parameters"),
    [
        ("numeric", "family: normal, mean: -1e3, std: 1e-3", (("mean", -1000.0), ("std", 0.001))),
        ("numeric", "family: lognormal, sigma: 2, mean: 1", (("mean", 1.0), ("sigma", 2.0))),
        ("numeric", "family: exponential, scale: 3", (("scale", 3.0),)),
        ("numeric", "family: gamma, shape: 2, scale: 3", (("shape", 2.0), ("scale", 3.0))),
        ("numeric", "family: beta, a: 2, b: 0.5", (("a", 2.0), ("b", 0.5))),
        ("numeric", "family: uniform, low: -1, high: 1", (("low", -1.0), ("high", 1.0))),
        ("numeric", "family: poisson, rate: 4", (("rate", 4.0),)),
        ("numeric", "family: bernoulli, p: 0.25", (("p", 0.25),)),
        ("categorical", "family: bernoulli, p: 0.25", (("p", 0.25),)),
        ("vector, dimensions: 2", "family: normal, mean: 0, std: 1", (("mean", 0.0), ("std", 1.0))),
    ],
)
def test_families_with_parameters_and_fitted(kind: str, written: str, parameters: tuple[tuple[Any, ...], ...]) -> None:
    name = written.split()[1].strip(",")
    (given,) = monitor(features=f"x: {{kind: {kind}, reference: {{{written}}}}}").features
    assert given.reference == ReferenceFamily(name, parameters)
    (fitted,) = monitor(features=f"x: {{kind: {kind}, reference: {{family: {name}, fit: x.csv}}}}").features
    assert fitted.reference == ReferenceFamily(name, (), Path("/etc/kldrift/x.csv"))


def test_a_categorical_family_is_probabilities_or_fitted() -> None:
    spec = monitor(
        features="{a: {kind: categorical, reference: {family: categorical, probabilities: {x: 0.25, y: 0.75}}}, "
        "b: {kind: categorical, reference: {family: categorical, fit: /abs/b.csv}}}"
    )
    assert [feature.reference for feature in spec.features] == [
        ReferenceInline(categories=("x", "y"), probabilities=(0.25, 0.75)),
        ReferenceFamily("categorical", fit=Path("/abs/b.csv")),
    ]


@pytest.mark.parametrize(
    "written",
    [
        "bins: {probabilities: [0.5]}, reference: {family: normal, mean: 0, std: 1}",
        "bins: {edges: [-.inf, 0, 1]}, reference: {family: normal, fit: a.csv}",
        "bins: {method: uniform, count: 5, range: [0, 9]}, reference: {family: gamma, shape: 1, scale: 1}",
        "bins: {method: logarithmic, range: [1, 9]}, reference: {family: lognormal, mean: 0, sigma: 1}",
        "bins: {method: discrete}, reference: {family: poisson, rate: 3}",
        "bins: {method: discrete}, reference: {family: bernoulli, fit: a.csv}",
        "bins: {method: uniform}, reference: {learn: 1000}",
    ],
)
def test_bins_beside_a_reference_without_data(written: str) -> None:
    (feature,) = monitor(features=f"x: {{kind: numeric, {written}}}").features
    assert feature.bins != Bins()
    assert feature.reference is not None


def test_vectors_and_posteriors() -> None:
    spec = monitor(
        features="{v: {kind: vector, dimensions: 4096, per_dimension: true}, "
        "f: {kind: vector, dimensions: 512, covariance: full, per_dimension: false}, "
        "p: {kind: posterior, dimensions: 1, per_dimension: true, drift: {warning: 0.05}}}"
    )
    assert spec.features == (
        FeatureSpec("v", "vector", dimensions=4096, per_dimension=True),
        FeatureSpec("f", "vector", dimensions=512, covariance="full"),
        FeatureSpec("p", "posterior", dimensions=1, per_dimension=True, warning=0.05),
    )


def test_a_posterior_needs_no_reference() -> None:
    (spec,) = parse_config("monitors: {m: {features: {p: {kind: posterior, dimensions: 8}}}}", HERE).monitors
    assert spec.reference is None
    assert spec.features == (FeatureSpec("p", "posterior", dimensions=8),)


def test_a_vector_may_have_its_own_reference_beside_a_previous_one() -> None:
    spec = monitor(
        reference="{previous: 1d}",
        features="{x: {kind: numeric}, v: {kind: vector, dimensions: 2, reference: {learn: 100}}, "
        "p: {kind: posterior, dimensions: 2}}",
    )
    assert [feature.reference for feature in spec.features] == [None, ReferenceLearn(100), None]


def test_an_offset_of_as_many_slices_as_are_kept() -> None:
    offset_ms = 100_000 * 3000 // 12
    assert monitor("windows: [3s, 1h]", reference=f"{{previous: {offset_ms}ms}}").reference.offset_ms == offset_ms
    with pytest.raises(ConfigError, match="use at most 6h56m40s, or no window as short as 3s"):
        monitor("windows: [3s, 1h]", reference=f"{{previous: {offset_ms + 1}ms}}")


@pytest.mark.parametrize("confidence", ["0.95", "0.500001", "0.999999999999"])
def test_confidence_and_correction_are_those_of_the_monitor(confidence: str) -> None:
    spec = monitor(f"drift: {{confidence: {confidence}, correction: by}}")
    assert (spec.confidence, spec.correction) == (float(confidence), "by")
    assert (spec.features[0].warning, spec.features[0].critical) == (0.01, 0.1)


@pytest.mark.parametrize("estimator", ["kldrift", "evidently", "boxkite", "mlrun", "driftwatch"])
def test_estimators(estimator: str) -> None:
    assert monitor(f"estimator: {estimator}").estimator == estimator


def test_segments() -> None:
    assert monitor("segments: {by: country}").segments == SegmentSpec("country", 20)
    assert monitor("segments: {by: x.y z, limit: 1000}").segments == SegmentSpec("x.y z", 1000)


def test_a_feature_may_have_any_printable_name() -> None:
    names = [
        feature.name for feature in monitor(features='{"a.b c": {kind: numeric}, "näïve=1": {kind: numeric}}').features
    ]
    assert names == ["a.b c", "näïve=1"]


@pytest.mark.parametrize(
    ("written", "length_ms"),
    [
        ("1200ms", 1200),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("1d", 86_400_000),
        ("1w", 604_800_000),
        ("1y", 31_536_000_000),
        ("1m30s600ms", 90_600),
    ],
)
def test_durations_are_those_of_prometheus(written: str, length_ms: int) -> None:
    assert monitor(f"windows: [{written}]").windows == (WindowSpec(written, length_ms),)


def test_a_length_is_written_as_a_duration() -> None:
    for written in ("0", "1ms", "1h30m", "1y1w1d1h1m1s1ms"):
        assert duration_text(milliseconds(written)) == written
    assert duration_text(7 * 86_400_000 + 90_000) == "1w1m30s"


def test_no_lateness_at_all() -> None:
    assert monitor("allowed_lateness: 0s").allowed_lateness_ms == 0
    assert monitor("allowed_lateness: 0").allowed_lateness_ms == 0


@pytest.mark.parametrize(
    ("written", "n_bytes"),
    [("1MB", 10**6), ("64MiB", 2**26), ("2 GiB", 2**31), ("1500000B", 1_500_000), ("2000kB", 2 * 10**6)],
)
def test_sizes(written: str, n_bytes: int) -> None:
    text = CONTRACT.replace("threads: auto", f"queue: {written}")
    assert parse_config(text, HERE).engine.queue_bytes == n_bytes


@pytest.mark.parametrize(
    ("listen", "insecure", "host", "port"),
    [
        ("localhost:0", False, "localhost", 0),
        ("127.1.2.3:80", False, "127.1.2.3", 80),
        ("[::1]:9867", False, "::1", 9867),
        ("0.0.0.0:9867", True, "0.0.0.0", 9867),
        (":9867", True, "0.0.0.0", 9867),
        ("[::]:9867", True, "::", 9867),
        ("drift.example.com:9867", True, "drift.example.com", 9867),
    ],
)
def test_listen(listen: str, insecure: bool, host: str, port: int) -> None:
    text = CONTRACT.replace("listen: 127.0.0.1:9867", f"listen: '{listen}'\n  insecure: {str(insecure).lower()}")
    server = parse_config(text, HERE).server
    assert (*server.listen, server.insecure) == (host, port, insecure)


def test_files_of_the_server_are_relative_to_the_configuration() -> None:
    tls = "{certificate: tls.crt, key: /run/secrets/tls.key, client_ca: ca.crt, key_password_file: p}"
    auth = "{tokens_file: tokens, users_file: u}"
    text = CONTRACT.replace("listen: 127.0.0.1:9867", f"listen: 127.0.0.1:9867\n  tls: {tls}\n  auth: {auth}")
    server = parse_config(text, HERE).server
    assert server.tls == TlsConfig(
        HERE.parent / "tls.crt", Path("/run/secrets/tls.key"), HERE.parent / "ca.crt", HERE.parent / "p"
    )
    assert server.auth == AuthConfig(HERE.parent / "tokens", HERE.parent / "u")


@pytest.mark.parametrize(
    ("guard", "warned"),
    [
        ("auth: {tokens_file: tokens}", True),
        ("auth: {tokens_file: tokens}\n  tls: {certificate: c, key: k}", False),
        ("tls: {certificate: c, key: k, client_ca: a}", False),
    ],
)
def test_other_machines_may_reach_a_server_that_lets_not_everyone_in(guard: str, warned: bool) -> None:
    text = CONTRACT.replace("listen: 127.0.0.1:9867", f"listen: 0.0.0.0:9867\n  {guard}")
    place = "/etc/kldrift/kldrift.yaml:4: server.auth"
    warning = (
        f"{place}: passwords and tokens cross the network unencrypted; "
        "add tls, or let only a proxy that terminates TLS reach the port"
    )
    assert parse_config(text, HERE).warnings == ((warning,) if warned else ())
    assert parse_config(text.replace("0.0.0.0", "127.0.0.1"), HERE).warnings == ()


@pytest.mark.parametrize(
    "listen", ["1.2.3:80", "300.1.1.1:80", "::1:80", "[1.2.3.4]:80", "a b:80", "host:", "host:-1", "[::1]", "x"]
)
def test_what_is_no_address(listen: str) -> None:
    with pytest.raises(Exception, match=r"server\.listen: expected an address and a port"):
        parse_config(CONTRACT.replace("listen: 127.0.0.1:9867", f"listen: '{listen}'\n  insecure: true"), HERE)


def test_threads() -> None:
    assert parse_config(CONTRACT.replace("threads: auto", "threads: 2"), HERE).engine.threads == 2


def test_the_format_of_a_file_is_told_by_its_suffix() -> None:
    formats = [
        source(f"{{type: file, path: 'a/*{suffix}'}}").format
        for suffix in (".jsonl", ".csv.gz", ".ndjson.zst", ".parquet", ".pq")
    ]
    assert formats == ["ndjson", "csv", "ndjson", "parquet", "parquet"]


def test_a_wildcard_in_the_folder_of_the_configuration_is_no_wildcard(tmp_path: Path) -> None:
    folder = tmp_path / "run [1]"
    folder.mkdir()
    (folder / "a.csv").write_text("x\n1\n")
    (folder / "kldrift.yaml").write_text(
        "sources: {s: {type: file, path: '*.csv'}}\n"
        "monitors: {m: {sources: [s], reference: {data: a.csv}, features: {x: {kind: numeric}}}}\n"
    )
    (file_source,) = load_config(folder / "kldrift.yaml").sources
    assert glob.glob(file_source.path) == [str(folder / "a.csv")]  # noqa: PTH207


def test_stdin() -> None:
    assert source("{type: stdin}") == StdinSourceConfig("s", "ndjson")
    assert source("{type: stdin, format: csv}") == StdinSourceConfig("s", "csv")


def test_a_kafka_source_with_everything() -> None:
    read = source("""
    type: kafka
    brokers: [kafka-1.example:9093, "[::1]:9093"]
    topic: _scores.v1-a
    group: us
    format: arrow
    start: latest
    member: one
    security: {protocol: sasl_ssl, mechanism: SCRAM-SHA-256, username_file: u, password_file: /run/p,
               ca: ca.pem, certificate: c.pem, key: k.pem, key_password_file: kp}
    """)
    here = HERE.parent
    security = KafkaSecurity(
        "sasl_ssl",
        "SCRAM-SHA-256",
        here / "u",
        Path("/run/p"),
        here / "ca.pem",
        here / "c.pem",
        here / "k.pem",
        here / "kp",
    )
    brokers = ("kafka-1.example:9093", "[::1]:9093")
    assert read == KafkaSourceConfig("s", brokers, "_scores.v1-a", "us", "arrow", "latest", "one", security)


def test_the_group_and_the_start_of_a_kafka_source_have_defaults() -> None:
    read = source("{type: kafka, brokers: ['a:1'], topic: t}")
    assert read == KafkaSourceConfig("s", ("a:1",), "t", "kldrift", "ndjson", "earliest", None, None)


def test_a_synthetic_source_with_a_drift() -> None:
    drawn = source("""
    type: synthetic
    rate: 100
    seed: 7
    rows: 5000
    features:
      n: {distribution: normal, mean: 1, std: 2, missing: 0.1}
      l: {distribution: lognormal, mean: 0, sigma: 0.5}
      u: {distribution: uniform, low: -1, high: 1}
      e: {distribution: exponential, scale: 3}
      p: {distribution: poisson, rate: 4}
      c: {distribution: categorical, probabilities: {a: 0.25, b: 0.75}}
      k: {distribution: constant, value: no}
      z: {distribution: constant, value: 0}
    drift:
      after: 2m
      features:
        n: {mean: 5}
        c: {probabilities: {a: 0.5, d: 0.5}}
        p: {distribution: constant, value: 4}
""")
    assert drawn == SyntheticSourceConfig(
        "s",
        rate_per_second=100.0,
        seed=7,
        rows=5000,
        features={
            "n": Distribution("normal", {"mean": 1.0, "std": 2.0}, None, 0.1),
            "l": Distribution("lognormal", {"mean": 0.0, "sigma": 0.5}),
            "u": Distribution("uniform", {"low": -1.0, "high": 1.0}),
            "e": Distribution("exponential", {"scale": 3.0}),
            "p": Distribution("poisson", {"rate": 4.0}),
            "c": Distribution("categorical", {"a": 0.25, "b": 0.75}),
            "k": Distribution("constant", {}, "no"),
            "z": Distribution("constant", {}, 0),
        },
        drift_after_ms=120_000,
        drifted={
            "n": Distribution("normal", {"mean": 5.0, "std": 2.0}, None, 0.1),
            "c": Distribution("categorical", {"a": 0.5, "d": 0.5}),
            "p": Distribution("constant", {}, 4),
        },
    )


def test_defaults_of_a_synthetic_source() -> None:
    drawn = source("{type: synthetic, features: {x: {distribution: constant, value: 1}}}")
    assert drawn == SyntheticSourceConfig("s", 1000.0, 0, None, {"x": Distribution("constant", {}, 1)})


def test_a_source_that_no_monitor_uses_is_a_warning() -> None:
    text = CONTRACT.replace("[scores, files]", "[scores]")
    assert parse_config(text, Path("kldrift.yaml")).warnings == (
        "kldrift.yaml:9: sources.files: no monitor uses this source; list it in the sources of a monitor, or remove it",
    )


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_load_without_a_warning(path: Path) -> None:
    assert load_config(path).warnings == ()


ANNOTATED = ROOT / "config" / "kldrift.yaml"


def test_the_annotated_configuration_shows_every_key_of_this_version() -> None:
    text = ANNOTATED.read_text(encoding="utf-8")
    schema = json_schema()
    keys = {key for part in [schema, *schema["$defs"].values()] for key in part.get("properties", {})}
    assert len(keys) > 50
    assert {key for key in keys if not re.search(rf"\b{key}\b", text)} == set()


def uncommented() -> str:
    """The annotated configuration with everything in force that it shows in comments."""
    return re.sub(r"(?m)^( +)# ((?:  )*[a-z_]+:)", r"\1\2", ANNOTATED.read_text(encoding="utf-8"))


def test_what_is_commented_out_in_the_annotated_configuration_is_valid_too() -> None:
    config = parse_config(uncommented(), ANNOTATED)
    assert [source.name for source in config.sources] == ["files", "piped", "scores", "made_up"]
    (loans,) = config.monitors
    assert loans.reference == ReferenceData(ANNOTATED.parent / "reference/loans.parquet")
    assert loans.segments == SegmentSpec("country", 20)
    references = {type(feature.reference) for feature in loans.features}
    assert references == {
        type(None),
        ReferenceInline,
        ReferenceData,
        ReferenceFamily,
        ReferenceLearn,
        ReferencePrevious,
    }
    assert {feature.kind for feature in loans.features} == {"numeric", "categorical", "vector", "posterior"}
    assert config.server.insecure

"""``kldrift init``: the file, what it is told to do next, and what it refuses."""

import os
import shlex
import stat
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kldrift.config.load import load_config
from kldrift.records.sources import FileSourceConfig
from tests.cli.command import kldrift
from tests.e2e.processes import Client, daemon, free_port, until
from tests.e2e.processes import kldrift as installed

N = 6000


def table() -> pl.DataFrame:
    rng = np.random.default_rng(3)
    return pl.DataFrame(
        {
            "amount": rng.lognormal(9, 1, N),
            "grade": rng.integers(1, 6, N),
            "stars": rng.choice([0.5, 1.0, 1.5], N).astype(np.float32),
            "agreed": rng.random(N) < 0.3,
            "country": rng.choice(["de", "fr", "it", None], N),
            "rooms": rng.integers(0, 30, N),
            "score": np.where(rng.random(N) < 0.1, np.nan, rng.normal(size=N)),
            "<script>alert(1)</script>": rng.normal(size=N),
        }
    )


def write(rows: pl.DataFrame, path: Path) -> None:
    {".parquet": rows.write_parquet, ".csv": rows.write_csv, ".ndjson": rows.write_ndjson}[path.suffix](path)


def listening(config: Path) -> int:
    """Let the configuration listen on a free port, and compare at once."""
    port = free_port()
    text = config.read_text()
    config.write_text(f'server: {{listen: "127.0.0.1:{port}"}}\nengine: {{tick: 200ms}}\n{text}')
    return port


def printed_command(stdout: str, word: str) -> list[str]:
    (line,) = [line for line in stdout.splitlines() if line.strip().startswith(word)]
    return shlex.split(line)


def divergences(client: Client, n_features: int, window: str) -> dict[str, float]:
    def found() -> dict[str, float]:
        family, label = "kldrift_kl_divergence_nats{", f'window="{window}"'
        return {name: number for name, number in client.metrics().items() if name.startswith(family) and label in name}

    until(lambda: len(found()) == n_features, 60, "a divergence of every feature")
    return found()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv", "ndjson"])
def test_its_own_rows_pushed_back_are_no_drift(kind: str, tmp_path: Path) -> None:
    """A category or a level that live rows write in another way than the reference would show as a drift."""
    write(table(), tmp_path / f"loans.{kind}")
    done = kldrift("init", f"loans.{kind}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert kldrift("check", "-c", "kldrift.yaml", cwd=tmp_path).returncode == 0
    port = listening(tmp_path / "kldrift.yaml")
    with daemon(tmp_path / "kldrift.yaml", port, tmp_path / "log") as client:
        if kind == "parquet":
            client.post("loans", b"\n".join(table().write_ndjson().encode().splitlines()))
        else:
            command = [word.replace(":9867", f":{port}") for word in printed_command(done.stdout, "curl")]
            posted = subprocess.run([*command, "-s"], cwd=tmp_path, capture_output=True, text=True, check=True)
            assert f'"accepted":{N}' in posted.stdout
            assert '"errors":[]' in posted.stdout
        found = divergences(client, 8, "1h")
        assert max(found.values()) < 1e-3, found


@pytest.mark.slow
def test_a_row_of_parquet_data_is_shown_as_a_post(tmp_path: Path) -> None:
    write(table(), tmp_path / "loans.parquet")
    done = kldrift("init", "loans.parquet", "-o", "new name.yaml", cwd=tmp_path)
    assert printed_command(done.stdout, "kldrift check") == ["kldrift", "check", "-c", "new name.yaml"]
    port = listening(tmp_path / "new name.yaml")
    with daemon(tmp_path / "new name.yaml", port, tmp_path / "log"):
        command = [word.replace(":9867", f":{port}") for word in printed_command(done.stdout, "curl")]
        posted = subprocess.run([*command, "-s"], capture_output=True, text=True, check=True)
        assert '"accepted":1,"rejected":0' in posted.stdout
        assert '"errors":[]' in posted.stdout


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".ndjson"])
def test_features_that_the_order_of_the_rows_leaves_undecided_are_named(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    customer = np.repeat(np.arange(5.0), N // 5)
    columns = {
        "by_label": np.repeat([False, True], N // 2),
        "by_customer": customer + rng.normal(size=N),
        "category": np.sort(rng.choice(["de", "fr", "it"], N)),
        "independent": rng.normal(size=N),
        "colour": rng.choice(["red", "blue"], N),
    }
    write(pl.DataFrame(columns), tmp_path / f"rows{suffix}")
    done = kldrift("init", f"rows{suffix}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    note = "by_label, by_customer, category: undecided in this order of the rows, which seem sorted"
    assert f"note: {note}" in done.stderr
    assert f"# Note: {note}" in (tmp_path / "kldrift.yaml").read_text()
    checked = kldrift("check", "-c", "kldrift.yaml", cwd=tmp_path)
    assert (
        "3 of 5 references cannot support a verdict: rows.by_label, rows.by_customer, rows.category" in checked.stdout
    )


def test_nothing_is_undecided_in_the_order_of_time_or_at_random(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x = np.repeat([0.0, 3.0, 1.0, 4.0, 2.0], N // 5) + rng.normal(size=N)
    rows = pl.DataFrame({"x": x, "ts": 1_700_000_000 + np.arange(N)})
    write(rows, tmp_path / "ordered.csv")
    write(rows.drop("ts").sample(fraction=1, shuffle=True, seed=1), tmp_path / "shuffled.csv")
    for name in ("ordered", "shuffled"):
        done = kldrift("init", f"{name}.csv", "--force", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "undecided" not in done.stderr
        assert "references cannot support" not in kldrift("check", "-c", "kldrift.yaml", cwd=tmp_path).stdout


@pytest.mark.slow
def test_the_label_of_a_training_set_is_absent_and_init_can_leave_it_out(shared_data: Path, tmp_path: Path) -> None:
    reference = shared_data / "employment_MA_reference.parquet"
    live = pl.read_parquet(reference).drop("employed").head(3_000)
    live.write_ndjson(tmp_path / "live.ndjson")
    done = installed("init", str(reference), "--live", str(tmp_path / "live.ndjson"), "--force", cwd=tmp_path)
    assert "employed" not in yaml_features(tmp_path)  # live rows are known not to have it
    installed("init", str(reference), "--force", cwd=tmp_path)
    config = tmp_path / "kldrift.yaml"
    assert "employed" in yaml_features(tmp_path)
    text = config.read_text().replace("monitors:\n", "sources: {s: {type: file, path: live.ndjson}}\nmonitors:\n")
    (monitor,) = load_config(config).monitors
    config.write_text(text.replace(f"  {monitor.name}:\n", f"  {monitor.name}:\n    sources: [s]\n"))
    once = installed("run", "--once", "-c", "kldrift.yaml", cwd=tmp_path)
    assert "absent: employed" in once.stdout, once.stdout + once.stderr
    assert "employed: absent: none of 3,000 rows has a value" in once.stdout
    assert "critical" not in once.stdout.partition("verdict")[2].partition("\n")[0]
    done = installed("init", str(reference), "--target", "employed", "--force", cwd=tmp_path)
    assert done.returncode == 0
    assert "employed" not in yaml_features(tmp_path)
    assert "--target employed" in config.read_text()
    assert "employed: what the model predicts" in " ".join(config.read_text().split())
    wrong = installed("init", str(reference), "--target", "employd", "--force", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "did you mean 'employed'?" in wrong.stderr


def yaml_features(folder: Path) -> set[str]:
    (monitor,) = load_config(folder / "kldrift.yaml").monitors
    return {feature.name for feature in monitor.features}


@pytest.mark.slow
def test_electricity_init_check_run_and_a_divergence(shared_data: Path, tmp_path: Path) -> None:
    data = str(shared_data / "electricity.csv.gz")
    done = installed("init", data, "--live", data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checked = installed("check", "-c", "kldrift.yaml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "ok: 1 monitor, 8 features" in checked.stdout
    assert "cannot support a verdict" not in checked.stdout
    (monitor,) = load_config(tmp_path / "kldrift.yaml").monitors
    assert monitor.timestamp is not None
    assert (monitor.timestamp.field, monitor.timestamp.unit) == ("time", "iso8601")
    assert [window.name for window in monitor.windows] == ["1w", "4w", "12w"]
    kinds = {feature.name: feature.kind for feature in monitor.features}
    assert kinds == {
        "day": "categorical", "period": "numeric", "nswprice": "numeric", "nswdemand": "numeric",
        "vicprice": "numeric", "vicdemand": "numeric", "transfer": "numeric", "class": "categorical",
    }  # fmt: skip
    port = listening(tmp_path / "kldrift.yaml")
    with daemon(tmp_path / "kldrift.yaml", port, tmp_path / "log") as client:
        found = divergences(client, 8, "4w")
        # seasons: some differ from the whole record, the day of the week does not
        assert max(found.values()) > 0.1
        assert next(number for name, number in found.items() if '"day"' in name) < 0.01
        until(lambda: client.metric("kldrift_samples_received_total", source="live") == 45_312, what="all rows")
        assert client.metric("kldrift_samples_late_total", monitor="electricity") == 0


@pytest.mark.slow
def test_electricity_pushed_as_the_printed_command_says(shared_data: Path, tmp_path: Path) -> None:
    done = kldrift("init", str(shared_data / "electricity.csv.gz"), cwd=tmp_path)
    port = listening(tmp_path / "kldrift.yaml")
    with daemon(tmp_path / "kldrift.yaml", port, tmp_path / "log") as client:
        command = [word.replace(":9867", f":{port}") for word in printed_command(done.stdout, "curl")]
        posted = subprocess.run([*command, "-s"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert '"accepted":45312,"rejected":0,"late":0' in posted.stdout
        assert len(divergences(client, 8, "1w")) == 8


@pytest.mark.slow
def test_employment_init_check_run_and_a_divergence(shared_data: Path, tmp_path: Path) -> None:
    data, live = (str(shared_data / f"employment_MA_{part}.parquet") for part in ("reference", "analysis"))
    done = kldrift("init", data, "--live", live, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    checked = kldrift("check", "-c", "kldrift.yaml", cwd=tmp_path)
    assert "ok: 1 monitor, 18 features" in checked.stdout, checked.stderr
    text = (tmp_path / "kldrift.yaml").read_text()
    assert "employed: the live rows have no such field" in text
    assert "year: constant: always 2015" in text
    assert "id: whole numbers that only grow" in text
    once = installed("run", "--once", "-c", "kldrift.yaml", cwd=tmp_path)
    assert once.returncode == 0, once.stderr
    assert "208,892 rows in" in once.stdout
    port = listening(tmp_path / "kldrift.yaml")
    with daemon(tmp_path / "kldrift.yaml", port, tmp_path / "log") as client:
        until(
            lambda: client.metric("kldrift_window_samples", feature="ANC", window="1h") == 208_892,
            what="all rows counted",
        )
        found = divergences(client, 18, "1h")
        assert max(found, key=lambda name: found[name]).count('feature="ANC"')  # ancestry has moved most
        assert 0.002 < max(found.values()) < 0.01


@pytest.mark.parametrize("name", ["t.csv", "t.ndjson", "t.csv.gz"])
def test_of_data_too_large_for_a_post_the_first_rows_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kldrift.cli.init.MAX_PLAIN", 1000)
    monkeypatch.setattr("kldrift.cli.init.MAX_BODY", 1000)
    write(table(), tmp_path / name.removesuffix(".gz"))
    if name.endswith(".gz"):
        subprocess.run(["gzip", name.removesuffix(".gz")], check=True)
    (line,) = [line for line in kldrift("init", name).stdout.splitlines() if "curl" in line]
    shown, _, post = line.rpartition(" | ")
    assert post.startswith("curl -H 'Content-Type: ")
    assert "Encoding" not in post
    assert "--data-binary @-" in post
    lines = subprocess.run(shown, shell=True, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 1000
    assert (
        lines
        == (subprocess.run(["zcat", "-f", name], capture_output=True, text=True, check=True).stdout.splitlines())[:1000]
    )


def test_a_wide_table_is_written_within_what_a_scrape_carries(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pl.DataFrame(rng.normal(size=(80, 3_000)).astype(np.float32)).write_parquet(tmp_path / "wide.parquet")
    done = kldrift("init", "wide.parquet", cwd=tmp_path)
    assert done.returncode == 0
    assert "note: the first 2,380 of 3,000 features are watched: a scrape carries 50,000 series" in done.stderr
    (monitor,) = load_config(tmp_path / "kldrift.yaml").monitors
    assert len(monitor.features) == 2380
    assert len(monitor.windows) == 1


# --- what is refused ------------------------------------------------------------------------------


def broken(folder: Path) -> None:
    rng = np.random.default_rng(1)
    (folder / "empty.csv").touch()
    (folder / "header.csv").write_text("a,b\n")
    (folder / "junk.csv").write_bytes(rng.bytes(20_000))
    (folder / "zeros.csv").write_bytes(b"a,b\n" + b"\0,x\n" * 50)
    (folder / "junk.ndjson").write_bytes(rng.bytes(20_000))
    (folder / "junk.parquet").write_bytes(b"PAR1" + rng.bytes(20_000) + b"PAR1")
    (folder / "junk.csv.gz").write_bytes(b"\x1f\x8b\x08" + rng.bytes(20_000))
    (folder / "junk.ndjson.zst").write_bytes(rng.bytes(20_000))
    (folder / "really_parquet.csv").write_bytes(b"PAR1 and so on")
    (folder / "semicolons.csv").write_text("a;b\n1;2\n" * 100)
    (folder / "latin.csv").write_bytes("a,b\né,1\n".encode("latin-1") * 100)
    (folder / "sheet.xlsx").write_text("x")
    (folder / "folder.csv").mkdir()
    os.mkfifo(folder / "pipe.csv")
    pl.DataFrame({"a": [None] * 50, "b": [None] * 50}).write_parquet(folder / "null.parquet")
    pl.DataFrame({"ts": range(1_700_000_000_000, 1_700_000_001_000)}).write_csv(folder / "one.csv")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("absent.csv", "expected a data file, found none"),
        ("folder.csv", "got a directory"),
        ("pipe.csv", "got a pipe or a device"),
        ("empty.csv", "got an empty file"),
        ("header.csv", "expected rows of data, got none"),
        ("junk.csv", "cannot be read as csv"),
        ("zeros.csv", "got binary data"),
        ("junk.ndjson", "expected one JSON object on each line"),
        ("junk.parquet", "cannot be read as parquet"),
        ("junk.csv.gz", "cannot be read as csv"),
        ("junk.ndjson.zst", "expected a whole zstandard archive"),
        ("really_parquet.csv", "got a Parquet file; name it .parquet"),
        ("semicolons.csv", "expected comma separated columns, got semicolons"),
        ("latin.csv", "save it as UTF-8"),
        ("sheet.xlsx", "expected a file named .ndjson, .jsonl, .csv"),
        ("null.parquet", "expected a column to watch, got none of 2; nothing was written"),
        ("one.csv", "the time of a row"),
    ],
)
def test_bad_data_is_refused_in_words(data: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = kldrift("init", data)
    assert done.returncode == 2
    assert words in done.stderr
    assert data in done.stderr
    assert not (tmp_path / "kldrift.yaml").exists()


def test_a_single_column_is_enough(tmp_path: Path) -> None:
    table().select("amount").write_csv(tmp_path / "t.csv")
    assert kldrift("init", "t.csv", cwd=tmp_path).returncode == 0
    assert kldrift("check", "-c", "kldrift.yaml", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "there.yaml"), "it is there already; give -o FILE, or --force"),
        (("-o", "."), "got a directory"),
        (("-o", "absent/new.yaml"), "absent is none; make it first"),
        (("--monitor", "a b"), "at most 64 letters"),
        (("--live", "."), "expected a file or a pattern, got a directory"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(table(), tmp_path / "t.csv")
    (tmp_path / "there.yaml").write_text("old")
    done = kldrift("init", "t.csv", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "there.yaml"]
    assert (tmp_path / "there.yaml").read_text() == "old"
    assert kldrift("init", "t.csv", "-o", "there.yaml", "--force").returncode == 0
    assert load_config(tmp_path / "there.yaml").monitors


@pytest.mark.slow
def test_a_command_that_fails_shows_its_words_only(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    done = installed("init", "empty.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "empty.csv: expected rows of data, got an empty file\n"


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    write(table(), tmp_path / "t.csv")
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(stat.S_IRUSR | stat.S_IXUSR)
    # root may write there all the same: then a folder of the kernel's, which nobody may
    output = Path("/proc") / "new.yaml" if os.access(closed, os.W_OK) else closed / "new.yaml"
    done = kldrift("init", "t.csv", "-o", str(output), cwd=tmp_path)
    assert done.returncode == 2
    assert f"{output}: expected to write the configuration, got" in done.stderr


@pytest.mark.slow
def test_paths_are_relative_to_the_file_and_read_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "a ${B} #[1]"
    (folder / "conf").mkdir(parents=True)
    write(table(), folder / "t [1].ndjson")
    done = kldrift("init", "t [1].ndjson", "-o", "conf/k.yaml", "--live", "t [1].ndjson", cwd=folder)
    assert done.returncode == 0, done.stderr
    config = load_config(folder / "conf" / "k.yaml")
    assert config.monitors[0].name == "t_1"
    once = installed("run", "--once", "-c", "conf/k.yaml", cwd=folder)
    assert f"{N:,} rows in" in once.stdout, once.stderr


@pytest.mark.parametrize(
    ("live", "data_format", "words"),
    [
        ("logs/*.csv.gz", "csv", "no such file yet: it is waited for"),
        ("logs/*.log", "ndjson", "its name tells no format: taken for ndjson"),
    ],
)
def test_live_files_that_are_still_to_come(
    live: str, data_format: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(table(), tmp_path / "t.ndjson")
    done = kldrift("init", "t.ndjson", "--live", live)
    assert words in done.stderr
    (source,) = load_config(tmp_path / "kldrift.yaml").sources
    assert isinstance(source, FileSourceConfig)
    assert (source.format, source.follow) == (data_format, True)
    assert source.path.endswith(live)

"""The files of tokens and users: what they may hold, and that no message shows it."""

import hashlib
import os
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kldrift.errors import ConfigError
from kldrift.web.credentials import Credentials, load_credentials

TOKEN = "b4a1d3c2e5f60718293a4b5c6d7e8f90"
# The salt is given, as tests with the hash among their parameters have the same names in every process.
HASH = bcrypt.hashpw(b"open sesame", b"$2b$04$K5D7fufswgMesDxeKL/2Xu").decode()


def written(folder: Path, tokens=None, users=None, mode=0o600):
    paths = []
    for name, text in (("tokens", tokens), ("users", users)):
        path = None
        if text is not None:
            path = folder / name
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            path.chmod(mode)
        paths.append(path)
    return paths


def loaded(folder, tokens=None, users=None, mode=0o600):
    warnings = []
    return load_credentials(*written(folder, tokens, users, mode), warnings.append), warnings


def refused(folder, tokens=None, users=None, mode=0o600):
    with pytest.raises(ConfigError) as caught:
        loaded(folder, tokens, users, mode)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_tokens_are_kept_as_hashes_only(tmp_path: Path) -> None:
    digest = hashlib.sha256(TOKEN.encode()).digest()
    text = f"# who sends\nscorer ingest {TOKEN}\n\n  ops read,admin sha256:{'ab' * 32}   # the on-call team\r\n"
    credentials, warnings = loaded(tmp_path, text)
    assert [(token.name, token.scopes, token.digest) for token in credentials.tokens] == [
        ("scorer", {"ingest"}, digest),
        ("ops", {"read", "admin"}, b"\xab" * 32),
    ]
    assert warnings == []
    assert TOKEN not in repr(credentials)
    assert repr(digest) not in repr(credentials)


def test_a_name_may_have_two_tokens_while_one_replaces_the_other(tmp_path: Path) -> None:
    credentials, _ = loaded(tmp_path, f"scorer ingest {TOKEN}\nscorer ingest {TOKEN[::-1]}\n")
    assert [token.name for token in credentials.tokens] == ["scorer", "scorer"]


def test_users_with_the_lines_of_htpasswd(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"x", bcrypt.gensalt(10)).decode().replace("$2b$", "$2y$")
    credentials, warnings = loaded(tmp_path, users=f"\ufeffgrafana:{hashed}:read\n")
    assert [*credentials.users] == [b"grafana"]
    assert credentials.users[b"grafana"].scopes == {"read"}
    assert hashed not in repr(credentials)
    assert warnings == []


def test_a_cheap_password_hash_is_worth_a_warning(tmp_path: Path) -> None:
    _, warnings = loaded(tmp_path, users=f"grafana:{HASH}:read\n")
    assert warnings == [f"{tmp_path}/users: the bcrypt cost of grafana is only 4; hash the password again with -C 10"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (TOKEN, "expected NAME SCOPES TOKEN, got 1 words; separate the three by spaces"),
        (f"a read {TOKEN} {TOKEN}", "expected NAME SCOPES TOKEN, got 4 words; separate the three by spaces"),
        (
            f"a read,ingst {TOKEN}",
            "expected scopes among ingest, read and admin, got something else; separate them by commas, without spaces",
        ),
        (
            f"{TOKEN}{TOKEN} read a-name-that-is-long",
            "expected a name of at most 40 letters, digits, _ . @ and -, got something else; the name comes first",
        ),
        (
            "a read 2short",
            (
                "expected a token of 16 to 512 letters, digits, . _ ~ + / - (or sha256: and 64 hexadecimal digits), "
                "got something else; make one with: openssl rand -hex 32"
            ),
        ),
        (
            f"a read sha256:{'ab' * 31}",
            (
                "expected a token of 16 to 512 letters, digits, . _ ~ + / - (or sha256: and 64 hexadecimal digits), "
                "got something else; make one with: openssl rand -hex 32"
            ),
        ),
        (f"b read {'c' * 20}", "expected each token once, got the token of an earlier line; make a new one"),
    ],
)
def test_a_bad_line_of_tokens_is_named_by_its_number(tmp_path: Path, line: str, words: str) -> None:
    assert refused(tmp_path, f"# tokens\nok read {'c' * 20}\n{line}\n") == [f"tokens:3: {words}"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            f"a:{HASH}",
            (
                "expected NAME:BCRYPT:SCOPES, got 2 parts; append :read (or ingest, admin) to what "
                "htpasswd -nBC 10 NAME prints"
            ),
        ),
        (
            "a:$apr1$dHjB9KlV$Tx0nc4zPzDIwVUtVSNbMW1:read",
            "expected a bcrypt hash, got something else; make it with: htpasswd -nBC 10 NAME",
        ),
        (
            f"a:{HASH[:28]}9{HASH[29:]}:read",  # a salt that bcrypt does not take
            "expected a bcrypt hash, got something else; make it with: htpasswd -nBC 10 NAME",
        ),
        (
            f"a:{HASH.replace('$04$', '$20$')}:read",
            "expected a bcrypt cost of 4 to 14, got 20; use 10 (htpasswd -C 10)",
        ),
        (f"ok:{HASH}:read", "expected each user once, got the user of an earlier line; remove one of the two"),
        (
            f"a:{HASH}:write",
            "expected scopes among ingest, read and admin, got something else; separate them by commas, without spaces",
        ),
        (
            f"ü:{HASH}:read",
            "expected a name of at most 40 letters, digits, _ . @ and -, got something else; the name comes first",
        ),
    ],
)
def test_a_bad_line_of_users_is_named_by_its_number(tmp_path: Path, line: str, words: str) -> None:
    assert refused(tmp_path, users=f"ok:{HASH}:read\n{line}\n") == [f"users:2: {words}"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "tokens: expected 1 to 1000 lines NAME SCOPES TOKEN, got 0; fill the file, or remove "),
        ("# nothing\n", "tokens: expected 1 to 1000 lines NAME SCOPES TOKEN, got 0; fill the file, or remove "),
        (
            "".join(f"a read {i:020}\n" for i in range(1001)),
            "tokens: expected 1 to 1000 lines NAME SCOPES TOKEN, got 1001; fill the file, or remove ",
        ),
        (b"\xff\xfe", "tokens: expected UTF-8, got other bytes; is it the right file for "),
        (b"#" * (1 << 20) + b"#", "tokens: expected at most 1 MiB, got more; is it the right file for "),
    ],
    ids=["empty", "comments", "many", "not text", "large"],
)
def test_a_file_that_is_none_of_tokens(tmp_path: Path, content: bytes | str, words: str) -> None:
    [problem] = refused(tmp_path, content)
    assert problem.startswith(words)
    assert "server.auth.tokens_file" in problem


def test_every_problem_of_both_files_is_told_at_once(tmp_path: Path) -> None:
    problems = refused(tmp_path, "a\nb\n", f"c:{HASH}\n")
    assert [problem.split(": ")[0] for problem in problems] == ["tokens:1", "tokens:2", "users:1"]


def test_what_is_no_file_is_refused_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, got in (("absent", "nothing"), (".", "something else"), ("pipe", "something else")):
        with pytest.raises(ConfigError, match=f"expected a file, got {got}; correct server.auth.tokens_file or make"):
            load_credentials(tmp_path / name, None, print)


def test_a_file_that_others_can_read_is_worth_a_warning_and_one_that_others_can_write_is_refused(
    tmp_path: Path,
) -> None:
    text = f"a read {TOKEN}\n"
    assert loaded(tmp_path, text, mode=0o640)[1] == []
    assert loaded(tmp_path, text, mode=0o444)[1] == [
        f"{tmp_path}/tokens: everyone on this machine can read it (mode 0444); chmod 600 it, or 640 for its group"
    ]
    assert refused(tmp_path, text, mode=0o602) == [
        "tokens: expected a file that not everyone can write, got mode 0602; chmod 600 it"
    ]


SECRET = "Zq9-5ecret-Zq9-5ecret"


@given(
    st.lists(
        st.sampled_from(
            ["a", "read", "ingest,admin", SECRET, f"x{SECRET}y", HASH, ":", "#", " ", "\t", "\n", "\r", "ü"]
        ),
        max_size=12,
    ).map("".join)
)
def test_no_message_shows_what_stands_in_a_file(tmp_path_factory: pytest.TempPathFactory, text) -> None:
    folder = tmp_path_factory.mktemp("secrets")
    for tokens, users in ((text, None), (None, text)):
        try:
            credentials, said = loaded(folder, tokens, users)
        except ConfigError as error:
            said = str(error)
        else:
            assert credentials != Credentials()
            said = [warning for warning in said if SECRET not in (user.decode() for user in credentials.users)]
        assert SECRET not in str(said)
        assert HASH not in str(said)

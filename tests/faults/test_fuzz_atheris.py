"""What atheris calls, without atheris; `python -m tests.faults.fuzz_atheris` runs it in full."""

import pytest

from tests.faults import fuzz_atheris
from tests.faults.fuzz_atheris import Endpoint, decode_one, mutated, seeds


@pytest.mark.parametrize("data", [b"", b"\x00\x00", b"\x00\x01\x00\xff{", b'\x02\x03\x01"', *seeds()[::3]])
def test_the_decoders_keep_their_promises_of_an_input(data: bytes) -> None:
    decode_one(data)


def test_a_broken_promise_of_a_decoder_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> object:
        decoded = original(*arguments)
        decoded.batch.columns[0].fill(float("inf"))
        decoded.batch.columns[2].fill(float("inf"))
        return decoded

    original = fuzz_atheris.decode
    monkeypatch.setattr(fuzz_atheris, "decode", broken)
    with pytest.raises(AssertionError, match="v"):
        decode_one(seeds()[0])


def test_the_endpoint_answers_every_input() -> None:
    endpoint = Endpoint()
    try:
        inputs = (b"\x00\x00\xff" + b'{"x": 1}\n', b"\x03\x80\x09no", b"\x01\x01\x80not gzip", b"\x00\x04\x00br")
        assert [endpoint(data) for data in inputs] == [200, 400, 400, 415]
        assert {endpoint(data) for data in seeds()} == {200, 400}
    finally:
        endpoint.close()


def test_inputs_are_changed_in_either_way_and_keep_their_choices() -> None:
    ways = {mutated(b"abc" + b'{"x": 1.5}', seed, lambda _: b"libFuzzer's") for seed in range(200)}
    assert b"libFuzzer's" in ways
    assert all(way.startswith(b"abc") for way in ways - {b"libFuzzer's"})
    assert len(ways) > 50

"""What a USD file is made of, as the USD library tells it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from engine import usd

CRATE = base64.b64decode("""
UFhSLVVTREMACAAAAAAAAFoCAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAADwPwIAAAAAAAAABQAAAAYAAAAgAQAAAAAAAAAB
AAAAAQAAAAAAAAAAAAAAAAAAAAAA8D8AAAAAAAAAACABAAAAAAAAAAIAAAABAAAAAAAAAAAAAAAAAAAAAADwPw0AAAAAAAAAdAAA
AAAAAABsAAAAAAAAAAD1CjstKQAALi9zdWIudXNkYQBzdWJMYXllcnMKAPIhT2Zmc2V0cwBBAEIAcHJpbUNoaWxkcmVuAHNwZWNp
ZmllcgAuL2RlZXAgZXIvcmVmSADicmVmZXJlbmNlcwBwYXkUAIBwYXlsb2FkAAMAAAAAAAAAAgAAAAkAAAALAAAABgAAAAAAAAAM
AAAAAAAAAACgAwAAAEQFAQECAisAAAAAAAAAACBYAAEAMDIAZAcAQQAxAHwIABEpBgBQAAAqQIwHALAAIwC1AAAAAAA3AAoAAAAA
AAAAEAAAAAAAAAAA4AEAAABBUQUA/QT7BAL6BAAAAAAAAAADAAAAAAAAAAkAAAAAAAAAAHACAAAAEQABCAAAAAAAAAAAYAEAAAAE
BAkAAAAAAAAAAHABAAAAEf/+AwAAAAAAAAAJAAAAAAAAAABwAgAAABEAAQkAAAAAAAAAAHAEAAAAEQADCQAAAAAAAAAAcAcAAAAU
/wAGAAAAAAAAAFRPS0VOUwAAAAAAAAAAAADWAAAAAAAAAIQAAAAAAAAAU1RSSU5HUwAAAAAAAAAAAFoBAAAAAAAAFAAAAAAAAABG
SUVMRFMAAAAAAAAAAAAAbgEAAAAAAABPAAAAAAAAAEZJRUxEU0VUUwAAAAAAAAC9AQAAAAAAACAAAAAAAAAAUEFUSFMAAAAAAAAA
AAAAAN0BAAAAAAAAQgAAAAAAAABTUEVDUwAAAAAAAAAAAAAAHwIAAAAAAAA7AAAAAAAAAA==
""")
"""Written by Pixar's own library (usd-core 26.11): a sublayer `./sub.usda`, a reference to `./deep er/ref.usda`
and a payload `pay.usda`. Its ComputeAllDependencies gives these three."""


def test_a_binary_layer_is_followed(tmp_path: Path) -> None:
    crate = tmp_path / "crate.usdc"
    crate.write_bytes(CRATE)
    expected = [crate, tmp_path / "sub.usda", tmp_path / "deep er" / "ref.usda", tmp_path / "pay.usda"]
    assert set(usd.layers(str(crate))) == set(map(str, expected))


def test_layers_are_followed_to_whatever_depth_and_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    first = tmp_path / "first.usda"
    first.write_text(
        "#usda 1.0\n(\n  # was @old.usd@\n subLayers = [@sub/second.usd@, @./sub/gone.usd@]\n)\nasset a = @wood.png@\n"
        'def "C" (references = @pack.usdz[inner.usdc]@) {}\n'
    )
    (tmp_path / "sub" / "second.usd").write_bytes(CRATE)
    (tmp_path / "sub" / "sub.usda").write_text(
        '#usda 1.0\ndef "A" (references = @@@../first.usda@@@</A>) {}\n'
        'def "B" (payload = @../third.usda:SDF_FORMAT_ARGS:a=b@) {}\n'
    )
    found = [Path(path).relative_to(tmp_path).as_posix() for path in usd.layers(str(first))]
    assert sorted(found) == [
        *("first.usda", "pack.usdz", "sub/deep er/ref.usda", "sub/gone.usd", "sub/pay.usda"),
        *("sub/second.usd", "sub/sub.usda", "third.usda"),
    ]


@pytest.mark.parametrize("length", range(0, len(CRATE), 31))
def test_what_is_cut_off_is_no_error(tmp_path: Path, length: int) -> None:
    crate = tmp_path / "crate.usdc"
    crate.write_bytes(CRATE[:length])
    assert usd.layers(str(crate))[0] == str(crate)


@pytest.mark.parametrize("at", range(88, len(CRATE), 41))
def test_what_is_damaged_is_no_error(tmp_path: Path, at: int) -> None:
    crate = tmp_path / "crate.usdc"
    crate.write_bytes(CRATE[:at] + bytes([CRATE[at] ^ 0xFF]) + CRATE[at + 1 :])
    assert usd.layers(str(crate))[0] == str(crate)

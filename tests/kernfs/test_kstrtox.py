"""Numbers as lib/kstrtox.c reads them."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfs.kernfs import (
    kstrtobool,
    kstrtoint,
    kstrtol,
    kstrtoll,
    kstrtou8,
    kstrtouint,
    kstrtoul,
    match_string,
    memparse,
    sysfs_streq,
)


@pytest.mark.parametrize(
    ("text", "base", "value"),
    [
        ("0", 0, 0),
        ("+5", 0, 5),
        ("0x1f\n", 0, 31),
        ("0X1F", 16, 31),
        ("1f", 16, 31),
        ("010", 0, 8),
        ("010", 10, 10),
        ("18446744073709551615", 0, 2**64 - 1),
        ("7\0garbage", 0, 7),
        ("7\n\0garbage", 0, 7),
        ("0xg"[:1], 0, 0),
    ],
)
def test_kstrtoul(text: str, base: int, value: int) -> None:
    assert kstrtoul(text, base) == value


@pytest.mark.parametrize(
    "text", ["", "\n", " 1", "1 ", "1\n\n", "-1", "-0", "0x", "0xg", "08", "1k", "++1", "+", "1\r\n", "\0"]
)
def test_kstrtoul_einval(text: str) -> None:
    with pytest.raises(OSError) as caught:
        kstrtoul(text)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (kstrtoul, "18446744073709551616"),
        (kstrtoul, "18446744073709551616x"),
        (kstrtol, "9223372036854775808"),
        (kstrtol, "-9223372036854775809"),
        (kstrtouint, "4294967296"),
        (kstrtoint, "2147483648"),
        (kstrtoint, "-2147483649"),
        (kstrtou8, "256"),
    ],
)
def test_erange(function, text: str) -> None:
    with pytest.raises(OSError) as caught:
        function(text)
    assert caught.value.errno == errno.ERANGE


def test_signed() -> None:
    assert kstrtol("-9223372036854775808") == -(2**63)
    assert kstrtoint("-2147483648\n") == -(2**31)
    assert kstrtoll("-0x10") == -16
    with pytest.raises(OSError):
        kstrtoll("-+1")


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(["{:d}", "{:d}\n"]))
def test_kstrtol_roundtrip(value: int, form: str) -> None:
    assert kstrtol(form.format(value), 10) == value


def test_kstrtobool() -> None:
    assert [kstrtobool(text) for text in ("y", "Yes", "true", "1", "12", "on", "ON", "oN\n")] == [True] * 8
    assert [kstrtobool(text) for text in ("n", "No", "false", "0", "0x1", "off", "OFx")] == [False] * 7
    for text in ("", "o", "x", " 1", "2", "\n"):
        with pytest.raises(OSError):
            kstrtobool(text)


def test_memparse() -> None:
    assert memparse("1G") == (2**30, "")
    assert memparse("0x10k") == (16384, "")
    assert memparse("1.5M") == (1, ".5M")
    assert memparse("12mb") == (12 * 2**20, "b")
    assert memparse("foo") == (0, "foo")
    assert memparse("") == (0, "")
    assert memparse("-1") == (0, "-1")
    assert memparse("16E") == (0, "")
    assert memparse("2P") == (2 * 2**50, "")
    assert memparse("18446744073709551617") == (1, "")


def test_match_string() -> None:
    words = ("always", "madvise", "never")
    assert [match_string(words, text) for text in ("always", "madvise\n", "never\0x")] == [0, 1, 2]
    for text in ("always ", " always", "ALWAYS", "never\n\n", "", "\n", "nev"):
        with pytest.raises(OSError):
            match_string(words, text)
    assert sysfs_streq("a\n", "a")
    assert sysfs_streq("a", "a\n")
    assert not sysfs_streq("a", "a\n\n")

"""Damage to bytes of any format: changed, removed, inserted, repeated, cut off; and values that nobody expects."""

import random

ODD_TEXTS = (
    *("", " ", "0", "-0", "-1", "1", "abc", "NaN", "nan", "inf", "-inf", "1e300", "1e-300", "-1e39", "1e5", "0.5"),
    *("99999999999999999999", "4294967295", "65536", "32768", "-32769", "1_0", "1,5", "1.2.3", "0x10", "1000"),
    *("1\\2", "1\\2\\3\\4\\5\\6", "0\\0\\0\\0\\0\\0", "1\\0\\0\\1\\0\\0", "9\\0\\0\\0\\9\\0"),
    *("1e308\\0\\0\\0\\1e308\\0", "\\", "\0", "\n", "\r\nx", "\x1b[2J", "\u202e", "a" * 70, "é"),
    *("None", "True", "[]", "'", '"', "<b>", "%s"),
)


def damaged(content: bytes, draw: random.Random, header: int) -> bytes:
    """Bytes changed, removed, inserted, repeated or cut off, mostly among the first `header` ones."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        place, kind = draw.randrange(min(len(changed), header)), draw.random()
        if kind < 0.5:
            changed[place] = draw.choice([0, 255, draw.randrange(256), changed[place] ^ (1 << draw.randrange(8))])
        elif kind < 0.65:
            del changed[place : place + draw.randrange(1, 9)]
        elif kind < 0.8:
            changed[place:place] = draw.randbytes(draw.randrange(1, 9))
        elif kind < 0.9:
            changed[place:place] = changed[place : place + draw.randrange(1, 200)]
        else:
            del changed[draw.randrange(len(changed)) :]
        changed = changed or bytearray(b"x")
    return bytes(changed)


def odd_integer(draw: random.Random, num_bytes: int) -> bytes:
    """A little-endian integer at the edges of its range, small, or anything."""
    most = 256**num_bytes - 1
    value = draw.choice([0, 1, 2, 3, 7, 8, 16, 255, 60000, most, most - 1, most // 2, most // 2 + 1])
    return (min(value, most) if draw.random() < 0.8 else draw.randrange(most + 1)).to_bytes(num_bytes, "little")

"""JSON Lines that readers refuse, and those that they read."""

from raw_files import lines

GOOD = lines(*(f"Passage number {number}." for number in range(5000)))
# Lines of a file behind 5,000 good ones, and what is wrong with its record 5000.
BAD_LINES = {
    "control character": (
        b'{"text": "cut her\n',
        r"is not JSON \(line 5001: Invalid control character at column 18\)",
    ),
    "cut off": (
        b'{"text": "cut her',
        r"is not JSON \(line 5001: Unterminated string starting at column 10\)",
    ),
    "no JSON": (b"text\n", r"is not JSON \(line 5001: Expecting value at column 1\)"),
    "glued": (
        b'{"text": "a"}{"text": "b"}\n',
        "is not JSON .*Extra data at column 14.*put a line feed between two records",
    ),
    "comma": (b'{"text": "a"},\n', "is not JSON .*Extra data at column 14"),
    "single quotes": (b"{'text': 'a'}\n", "is not JSON .*Expecting property name"),
    "behind a blank line": (b"\n{\n", r"is not JSON \(line 5002: "),
    "carriage returns": (
        b'{"text": "a"}\r{"text": "b"}\r',
        "is not JSON .*end lines with a line feed, not a carriage return",
    ),
    "byte-order mark": (
        b'\xef\xbb\xbf{"text": "a"}\n',
        "is not JSON .*take out the byte-order mark",
    ),
    "escaped zero byte in a name": (
        b'{"\\u0000": "a"}\n',
        r"has no string field `text` \(its fields are \\x00\)",
    ),
    "list": (b'["a"]\n', r"is no JSON object \(line 5001\); write one object a line"),
    "text": (b'"a"\n', "is no JSON object"),
    "null": (b"null\n", "is no JSON object"),
    "number": (b"1\n", "is no JSON object"),
    "long number": (b'{"text": "a", "n": ' + b"9" * 5000 + b"}\n", "is not JSON .*4300 digits"),
    "deep": (b'{"text": ' + b"[" * 100_000, "is not JSON .*nested too deep"),
    "key twice": (
        b'{"text": "a", "id": 1, "text": "b"}\n',
        r"has the key `text` twice in one object \(line 5001\)",
    ),
    "key twice inside": (b'{"text": "a", "m": [{"k": 1, "k": 1}]}\n', "has the key `k` twice"),
    "odd key twice": (b'{"\\ud800\\n": 1, "\\ud800\\n": 1}\n', r"has the key `\?\\n` twice"),
    "half a pair": (
        b'{"text": "a \\ud83d b"}\n',
        "has half a surrogate pair in `text`, which is no text",
    ),
    "half a pair, second": (b'{"text": "\\uDE00"}\n', "has half a surrogate pair in `text`"),
    "pair the wrong way": (b'{"text": "\\ude00\\ud83d"}\n', "has half a surrogate pair in `text`"),
    "Latin-1": (
        b'{"text": "na\xefve"}\n',
        f"is not UTF-8: byte 0xef at byte {len(GOOD) + 12}; convert the file",
    ),
    "surrogate bytes": (b'{"text": "\xed\xa0\xbd"}\n', "is not UTF-8: byte 0xed"),
    "no text": (
        b'{"body": "a", "id": 1}\n',
        r"has no string field `text` \(its fields are body, id\)",
    ),
    "no fields": (b"{}\n", r"has no string field `text` \(its fields are none\)"),
    "text is null": (b'{"text": null}\n', r"has no string field `text` \(it is null\)"),
    "text is a list": (b'{"text": ["a"]}\n', r"has no string field `text` \(it is a list\)"),
    "text is a number": (b'{"text": NaN}\n', r"has no string field `text` \(it is a number\)"),
}
LINES_THAT_ARE_READ = {
    "blank lines": (b'{"text": "a"}\n\n \t\n{"text": "b"}\n\n', ["a", "b"]),
    "blank lines first": (b'\n\r\n{"text": "a"}', ["a"]),
    "no last line feed": (b'{"text": "a"}\n{"text": "b"}', ["a", "b"]),
    "CRLF": (b'{"text": "a"}\r\n\r\n{"text": "b"}\r\n', ["a", "b"]),
    "byte-order mark": (b'\xef\xbb\xbf{"text": "a"}\n', ["a"]),
    "two byte-order marks": (b'\xef\xbb\xbf\xef\xbb\xbf{"text": "a"}\n', ["a"]),
    "Unicode's line separators": (
        '{"text": "a\u2028b\u2029c\x85d"}\n{"text": "e"}\n'.encode(),
        ["a\u2028b\u2029c\x85d", "e"],
    ),
    "escaped controls": (b'{"text": "a\\u0000b\\u001b\\r\\n"}\n', ["a\0b\x1b\r\n"]),
    "pair": (b'{"text": "\\ud83d\\ude00"}\n', ["\U0001f600"]),
    "words about pairs": (rb'{"text": "\\\\ud83d is half"}' + b"\n", [r"\\ud83d is half"]),
    "half a pair in another field": (b'{"text": "a", "m": [{"\\ud83d": "\\ud83d"}]}\n', ["a"]),
    "byte-order mark inside": ('{"text": "\ufeffa"}\n'.encode(), ["\ufeffa"]),
    "other fields": (b'{"text": "a", "n": NaN, "m": 1e999}\n{"m": {}, "text": "b"}\n', ["a", "b"]),
    "blank texts": (b'{"text": " \\n"}\n{"text": ""}\n{"text": " a "}\n', ["", "", " a "]),
}

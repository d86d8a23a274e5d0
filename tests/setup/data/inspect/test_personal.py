"""What looks like personal data: found in a copy of the sample, masked, rejected, never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.setup.command import prepare, rows, write
from tests.setup.data.inspect.planted import Turns, sample

LEAST_RECALL, LEAST_PRECISION = 0.95, 0.95

# Made up, with check digits that are right; none is anybody's.
PLANTED = {
    "e-mail address": [
        "Write to anna.lindqvist@fastmail-post.se please",
        "my address is J_DOE+shop@mail.some-firm.co.uk.",
        "<kontakt@müller-und-söhne.de>",
    ],
    "telephone number": [
        "Call me on +49 30 23125 000 tonight",
        "It is (415) 555-2671, after six",
        "0044 20 7946 0958 is the office",
        "Tel.: 030 / 2312 5000",
        "my mobile is 0171 2345678",
        "appelle au numéro 06 12 34 56 78",
    ],
    "card number": [
        "Charge 4111 1111 1111 1111, it is mine",
        "Mastercard 5500-0000-0000-0004",
        "amex 378282246310005 expires soon",
    ],
    "IBAN": [
        "Pay into DE89 3704 0044 0532 0130 00 AND tell me",
        "iban gb29nwbk60161331926819",
        "FR14 2004 1010 0505 0001 3M02 606",
    ],
    "national id": [
        "My SSN is 536-90-4399",
        "DNI 12345678Z",
        "il mio codice fiscale è RSSMRA85T10A562S",
        "henkilötunnus 131052-308T",
        "personnummer 811218-9876",
        "CPF 390.533.447-05",
        "My NHS number is 943 476 5919",
        "BSN: 111222333",
        "NI number AB 12 34 56 C",
        "身份证 11010519491231002X",
        "Aadhaar 2341 2341 2346",
        "PESEL 44051401359",
        "Steuer-ID 36 574 261 809",
    ],
    "key or password": [
        "use sk-proj-Abc123Def456Ghi789Jkl012",
        "AKIAQ3EGV5JTPLM2XKRA is the key id",
        f"token ghp_{'a1B2' * 9}",
        f"HF_TOKEN=hf_{'Ab1' * 12}",
        "postgres://bob:s3cretpass@db.internal/shop",
        "my password is Tr0ub4dor&3",
        "-----BEGIN {0}-----\nMIIabc\n-----END {0}-----".format("PRIVATE KEY"),
        "AccountName=x;AccountKey=" + "Ab1+" * 21 + "Ab==",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dGhpc2lzYXNpZw",
    ],
}

# Numbers and words that only look a little like them.
HARMLESS = [
    "The order 2024-05-01 12:03:44 came late",
    "Write to help@shop.example or a@example.com",
    "It costs 2,500,000,000 or 10 000 000 000",
    "ISBN 978-3-16-148410-0 is the book",
    "The card 4111 1111 1111 1112 was refused",
    "DE88 3704 0044 0532 0130 00 is mistyped",
    "3.14159265358979 is pi",
    "Version 1.2.3.4.5 at 192.168.100.100",
    "Years: 1984, 1985, 1986, 1987",
    "From 24.12.2023 to 31.12.2023",
    "+1 234 567 890 reasons to buy",
    "DNI 12345678A has a wrong letter",
    "12345678901234567890 grains",
    "Press 5 / 6 / 7 / 8 / 9 / 10",
    "the skill-set of sk-learners",
    "serial 811218-9875",
    "1e-10 against 3.000.000",
    "npm_run and hf_hub and pypi-server",
    "@mention me, user@host has no dot",
    "A password is needed; passwords expire",
]


def _rows(texts: list[str], part: str) -> list[Turns]:
    """Each text in a question, and in an answer."""
    asked = [
        [
            {"role": "user", "content": f"{part} {number}: {text}"},
            {"role": "assistant", "content": f"I noted that as {part} {number}."},
        ]
        for number, text in enumerate(texts)
    ]
    answered = [
        [
            {"role": "user", "content": f"What do you know of {part} {number}?"},
            {"role": "assistant", "content": text},
        ]
        for number, text in enumerate(texts)
    ]
    return [*asked, *answered]


def test_planted_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Recall and precision, printed, of the rows that are left out of a copy of the sample."""
    planted = _rows([text for texts in PLANTED.values() for text in texts], "case")
    harmless = [*sample(), *_rows(HARMLESS, "note")]
    source = write(tmp_path / "in.jsonl", *harmless, *planted)
    done = prepare(source, tmp_path / "out", personal="reject")
    assert done.code == 0, done.err
    found = {row["line"] for row in rows(tmp_path / "out" / "data.rejects.jsonl")}
    right = {line for line in found if line > len(harmless)}
    recall, precision = len(right) / len(planted), len(right) / len(found)
    with capsys.disabled():
        print(f"\npersonal data: recall {recall:.3f}, precision {precision:.3f}")
        for line in sorted({*range(len(harmless) + 1, len(harmless) + len(planted) + 1)} ^ found):
            print("  mistaken:", [*harmless, *planted][line - 1])
    assert recall >= LEAST_RECALL
    assert precision >= LEAST_PRECISION
    assert f"{len(found)} rows hold what looks like" in done.err
    assert "rejected; data.rejects.jsonl still holds them" in done.err


@pytest.mark.parametrize("kind", PLANTED)
def test_kind_is_masked_everywhere(tmp_path: Path, kind: str) -> None:
    names = {
        "e-mail address": "EMAIL",
        "telephone number": "PHONE",
        "card number": "CARD",
        "IBAN": "IBAN",
        "national id": "ID",
        "key or password": "SECRET",
    }
    given, plural = _rows(PLANTED[kind], "case"), "es" if kind.endswith("s") else "s"
    source = tmp_path / "in.jsonl"
    extra = [
        {"messages": row, "prompt": row[0]["content"], "tags": {"said": [row[1]["content"]]}}
        for row in [*given, *sample()[::10]]
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in extra), encoding="utf-8")
    done = prepare(source, tmp_path / "out", personal="mask")
    assert f"{len(given)} rows hold what looks like {len(given)} {kind}{plural}: masked" in done.err
    written = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir())
    assert written.count(f"[{names[kind]}]") >= 2 * len(given)
    for text in PLANTED[kind]:
        assert json.dumps(text, ensure_ascii=False)[1:-1] not in written
    again = prepare(tmp_path / "out" / "train_data.jsonl", tmp_path / "again")
    assert "what looks like" not in again.err.replace("what looks like personal data in 0", "")


def test_kept_is_said(tmp_path: Path) -> None:
    given = _rows(["Write to anna@some-firm.de, IBAN DE89 3704 0044 0532 0130 00"], "case")
    source = write(tmp_path / "in.jsonl", *given, *sample()[::10])
    done = prepare(source, tmp_path / "out")
    assert "note: 2 rows hold what looks like 2 IBANs and 2 e-mail addresses: kept" in done.err
    assert "anna" not in done.err
    assert "what looks like personal data in 2 rows" in done.err

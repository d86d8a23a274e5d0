"""Personal data and secrets in a text, or what looks like them, proved by check digits if possible.

A guess by shape: names and addresses are not seen, and a number that satisfies a checksum by chance
is. Addresses and numbers that are reserved for examples are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

EMAIL, PHONE, CARD = "e-mail address", "telephone number", "card number"
IBAN, NATIONAL_ID, KEY = "IBAN", "national id", "key or password"
_MASKS = {
    EMAIL: "[EMAIL]",
    PHONE: "[PHONE]",
    CARD: "[CARD]",
    IBAN: "[IBAN]",
    NATIONAL_ID: "[ID]",
    KEY: "[SECRET]",
}

# Where a number could be: to look everywhere for all of them takes fifty times as long.
_NUMBER = re.compile(r"\d(?:[^\d\n]{0,3}\d){5,}")
_AROUND = 40  # characters before and after that may belong to it
_LONG = 12
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d_]{2,24}(?![\w-])")
_LONGEST_NAME, _LONGEST_HOST = 65, 256  # characters before and after the @
_RESERVED = re.compile(r"(?:^|\.)(?:example|test|invalid|localhost|example\.(?:com|net|org))$")
_PHONE = re.compile(r"(?<![\w.,+])(?:\+|00|\()?\d[\d \u00a0()./\-]{5,20}\d(?![\w%])")
_CALLED = re.compile(
    r"(?:tel|phone|call|mobile|cell|fax|whatsapp|sms|text me|reach me|telefon|handy|mobil|rufnummer"
    r"|(?:an)?rufen sie|nummer|number is|num[ée]ro|n[úu]mero"
    r"|t[ée]l[ée]phone|portable|tel[ée]fono|m[óo]vil|telefone|celular|cellulare)\b[^\d\n]{0,25}$",
    re.IGNORECASE,
)
_AMERICAN = re.compile(r"(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}")
_CARD = re.compile(r"(?<![\w.,-])\d(?:[ \u00a0-]?\d){12,18}(?![\w]|[.,]\d)")
_NETWORK = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|35\d{14}|6(?:\d{15}|\d{18})"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ \u00a0-]?[A-Za-z0-9]){11,30}")

# How keys begin, to look closely only where one does; and their shapes.
_BEGINNINGS = (
    *("sk-", "sk_", "rk_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox"),
    *("AKIA", "ASIA", "AIza", "hf_", "SG.", "npm_", "pypi-", "eyJ", "-----BEGIN", "dop_v1_"),
    *("dapi", "AccountKey=", "SharedAccessKey=", "sig=", ":AA", "shpat_", "xai-", "gsk_"),
)
_LONG_WORD = re.compile(r"\S{16}")
_SHORT_SECRETS = ("assword", "asswort", "ASSWORD", "ASSWORT", "://", "PRIVATE KEY")
_KEYS = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-(?:ant-|proj-|or-|svcacct-)?[A-Za-z0-9_-]{20,}"
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{36,}"
    r"|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,}|xox[abeoprs]-[A-Za-z0-9-]{10,}"
    r"|A[KS]IA[A-Z2-7]{16}|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{30,}"
    r"|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{40,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+|dop_v1_[0-9a-f]{64}"
    r"|dapi[0-9a-f]{32}|\d{8,10}:AA[A-Za-z0-9_-]{32,}|shpat_[0-9a-f]{32}|xai-[A-Za-z0-9]{40,}"
    r"|gsk_[A-Za-z0-9]{40,})(?![A-Za-z0-9])"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?:Account|SharedAccess)Key=(?P<azure>[A-Za-z0-9+/]{40,}={0,2})"
    r"|[?&]sig=(?P<sas>[A-Za-z0-9%+/=]{40,})"
    r"|(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,99}:(?P<url>[^\s/@]{3,99})@"
    r"|(?i:\bpass(?:word|wort)\b)(?: is| ist|:|=) ?(?P<said>(?=\S*\d)\S{6,64}(?<![.,;:!?]))"
)

# National ids: country, module of stdnum, shape, and the words one of which must come before it,
# where the shape alone is that of any number and one in ten satisfies the check digit.
_ID_WORD = re.compile(
    r"\b(?:ssn|social security|sin|nhs|bsn|burgerservice|tax|steuer|idnr|tin|tfn|nin|national|"
    r"identity|aadhaar|uidai|passport|citizen|personal (?:id|number)|id (?:number|no)|pesel|cpf|"
    r"rodné|cnp|my number|individual number|insurance)\w*\b[^\n]{0,30}$",
    re.IGNORECASE,
)
_IDS: tuple[tuple[str, str, str, bool], ...] = (
    ("es", "stdnum.es.dni", r"\d{8}-?[A-Z]", False),
    ("es", "stdnum.es.nie", r"[XYZ]-?\d{7}-?[A-Z]", False),
    ("it", "stdnum.it.codicefiscale", r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]", False),
    ("fi", "stdnum.fi.hetu", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Y]", False),
    ("us", "stdnum.us.ssn", r"\d{3}-\d{2}-\d{4}", False),
    ("fr", "stdnum.fr.nir", r"[12] ?\d\d ?\d\d ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", False),
    ("br", "stdnum.br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}", False),
    ("br", "stdnum.br.cpf", r"\d{11}", True),
    ("se", "stdnum.se.personnummer", r"(?:\d\d)?\d{6}[-+]\d{4}", False),
    ("cn", "stdnum.cn.ric", r"\d{17}[\dXx]", False),
    ("pl", "stdnum.pl.pesel", r"\d{11}", True),
    ("no", "stdnum.no.fodselsnummer", r"\d{6} ?\d{5}", False),
    ("dk", "stdnum.dk.cpr", r"\d{6}-\d{4}", False),
    ("ch", "stdnum.ch.ssn", r"756\.?\d{4}\.?\d{4}\.?\d{2}", False),
    ("be", "stdnum.be.nn", r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", False),
    ("cz", "stdnum.cz.rc", r"\d{6}/\d{3,4}", False),
    ("ro", "stdnum.ro.cnp", r"[1-9]\d{12}", True),
    ("kr", "stdnum.kr.rrn", r"\d{6}-\d{7}", False),
    ("mx", "stdnum.mx.curp", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d", False),
    ("za", "stdnum.za.idnr", r"\d{13}", True),
    ("tr", "stdnum.tr.tckimlik", r"[1-9]\d{10}", True),
    ("in", "stdnum.in_.aadhaar", r"\d{4} \d{4} \d{4}", False),
    ("in", "stdnum.in_.aadhaar", r"\d{12}", True),
    ("jp", "stdnum.jp.in_", r"\d{12}", True),
    ("nl", "stdnum.nl.bsn", r"\d{9}|\d{4}\.\d\d\.\d{3}", True),
    ("de", "stdnum.de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", True),
    ("gb", "stdnum.gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", True),
    ("ca", "stdnum.ca.sin", r"\d{3}([ -]?)\d{3}\1\d{3}", True),
    ("au", "stdnum.au.tfn", r"\d{3} ?\d{3} ?\d{3}", True),
    ("gb", "", r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]", False),
    ("ie", "stdnum.ie.pps", r"\d{7}[A-W][ABHWTX]?", False),
)
_ID_SHAPES = [
    (module, re.compile(rf"(?<![\w.+-])(?:{shape})(?![\w]|[.,-]\d)"), needs_word)
    for _, module, shape, needs_word in _IDS
]


class Finding(NamedTuple):
    """A part of a text that looks like personal data or a secret."""

    kind: str
    start: int
    end: int


def findings(text: str) -> list[Finding]:
    """Everything in ``text`` that looks like personal data, in order, without overlaps."""
    made: list[Finding] = []
    taken = bytearray()
    for finding in _look(text):
        taken = taken or bytearray(len(text))
        if not any(taken[finding.start : finding.end]):
            taken[finding.start : finding.end] = b"\1" * (finding.end - finding.start)
            made.append(finding)
    return sorted(made, key=lambda finding: finding.start)


def _look(text: str) -> Iterator[Finding]:
    """Look for one kind after the other: what is a key is no telephone number."""
    if _may_hold_key(text):
        for match in _KEYS.finditer(text):
            yield Finding(KEY, *match.span(match.lastgroup or 0))
    at = text.find("@")
    while at >= 0:
        for match in _EMAIL.finditer(text, max(0, at - _LONGEST_NAME), at + _LONGEST_HOST):
            if not _RESERVED.search(match.group().rpartition("@")[2].lower()):
                yield Finding(EMAIL, *match.span())
        at = text.find("@", at + _LONGEST_HOST - _LONGEST_NAME)
    places = list(_number_places(text))
    for look in (_ibans, _cards, _ids, _phones):
        for place in places:
            yield from look(text, *place)


def _may_hold_key(text: str) -> bool:
    """Tell whether it is worth to look for keys, which takes long and is seldom."""
    if any(word in text for word in _SHORT_SECRETS):
        return True
    return bool(_LONG_WORD.search(text)) and any(beginning in text for beginning in _BEGINNINGS)


def _number_places(text: str) -> Iterator[tuple[int, int]]:
    """The beginnings and ends of the parts of ``text`` that may hold numbers."""
    start = end = 0
    for match in _NUMBER.finditer(text):
        if end and match.start() - _AROUND > end:
            yield start, end
            end = 0
        start = start if end else max(0, match.start() - _AROUND)
        end = match.end() + _AROUND
    if end:
        yield start, end


def _ibans(text: str, start: int, stop: int) -> Iterator[Finding]:
    for match in _IBAN.finditer(text, start, stop):
        for end in range(match.end(), match.start() + 14, -1):
            if text[end - 1].isalnum() and not text[end : end + 1].isalnum():
                part = text[match.start() : end]
                if _is_valid("stdnum.iban", part.replace("\u00a0", "").upper()):
                    yield Finding(IBAN, match.start(), end)
                    break


def _cards(text: str, start: int, stop: int) -> Iterator[Finding]:
    for match in _CARD.finditer(text, start, stop):
        digits = re.sub(r"\D", "", match.group())
        if _NETWORK.fullmatch(digits) and _is_valid("stdnum.luhn", digits):
            yield Finding(CARD, *match.span())


def _ids(text: str, start: int, stop: int) -> Iterator[Finding]:
    for module, shape, needs_word in _ID_SHAPES:
        for match in shape.finditer(text, start, stop):
            if needs_word and not _ID_WORD.search(text[max(0, match.start() - 60) : match.start()]):
                continue
            if not module or _is_valid(module, match.group()):
                yield Finding(NATIONAL_ID, *match.span())


def _phones(text: str, start: int, stop: int) -> Iterator[Finding]:
    import phonenumbers

    for match in _PHONE.finditer(text, start, stop):
        said = match.group()
        international = said.startswith(("+", "00"))
        try:
            number = phonenumbers.parse(re.sub(r"^00", "+", said), None if international else "US")
        except phonenumbers.NumberParseException:
            continue
        called = _CALLED.search(text[max(0, match.start() - 60) : match.start()])
        is_american = _AMERICAN.fullmatch(said) and phonenumbers.is_valid_number(number)
        if called or is_american or (international and phonenumbers.is_valid_number(number)):
            yield Finding(PHONE, *match.span())


_VALID: dict[str, Callable[[str], Any]] = {}


def _is_valid(module: str, number: str) -> bool:
    if module not in _VALID:
        _VALID[module] = import_module(module).is_valid
    return bool(_VALID[module](number))


def count_kind(number: int, kind: str) -> str:
    """So many findings of a kind, in words."""
    ending = "" if number == 1 else "es" if kind.endswith("s") else "s"
    return f"{number:,} {kind}{ending}"


def mask(text: str) -> str:
    """``text`` with a name of its kind in the place of each finding."""
    for finding in reversed(findings(text)):
        text = text[: finding.start] + _MASKS[finding.kind] + text[finding.end :]
    return text


def hide(text: str) -> str:
    """``text`` of the same length, of each finding only the ends: one character, or two of many."""
    for _, start, end in findings(text):
        shown = 2 if end - start >= _LONG else 1
        middle = slice(start + shown, end - shown)
        text = text[: middle.start] + "\u2022" * len(text[middle]) + text[middle.stop :]
    return text


def mask_row(value: Any) -> Any:
    """A row, or any part of one, with all its texts masked."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: mask_row(part) for key, part in value.items()}
    return [mask_row(part) for part in value] if isinstance(value, list) else value

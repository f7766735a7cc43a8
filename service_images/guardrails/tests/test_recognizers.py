"""Identifiers announced by words: the findings of Presidio's recognizers, and the calls to them."""

from __future__ import annotations

import random
import string

import pytest
from guardrails.detectors import DETECTORS
from guardrails.recognizers import BUDGET, FROM, TRIES, WINDOW
from hypothesis import given
from hypothesis import strategies as st
from kit.guard_policy import KINDS

from .shared import scanner

SAMPLES = {
    "us_mbi": ("her Medicare number is", "1EG4-TE5-MK73"),
    "us_npi": ("NPI", "1234567893"),
    "us_dea_number": ("DEA number", "AB1234563"),
    "us_driver_license": ("driver's license no.", "D1234567"),
    "us_health_insurance_id": ("member ID:", "XYZ123456789"),
    "us_routing_number": ("routing number", "122105155"),
    "ca_sin": ("social insurance number", "130 692 544"),
    "au_medicare": ("Medicare card", "2123 45670 1"),
    "au_abn": ("ABN", "51 824 753 556"),
    "au_acn": ("ACN", "004 085 616"),
    "in_pan": ("PAN", "ABCPD1234E"),
    "in_gstin": ("GSTIN", "27AAPFU0939F1ZV"),
    "in_voter": ("voter id", "KSD1287349"),
    "in_passport": ("passport", "A3456781"),
    "uk_passport": ("passport", "AB1234567"),
    "uk_driving_licence": ("driving licence", "MORGA657054SM9IJ"),
    "sg_nric": ("NRIC", "S1234567D"),
    "de_tax_id": ("Steuer-ID", "86095742719"),
    "de_social_security": ("Rentenversicherungsnummer", "15070649C103"),
    "de_health_insurance": ("Krankenversichertennummer", "A123456780"),
    "de_driving_licence": ("Führerschein", "BC123456781"),
    "es_passport": ("pasaporte", "AAA123456"),
    "it_driver_license": ("patente", "AA1234567B"),
    "it_vat_code": ("partita IVA", "07643520567"),
    "pl_pesel": ("PESEL", "44051401359"),
    "fi_personal_identity_code": ("henkilötunnus", "131052-308T"),
    "se_personnummer": ("personnummer", "811218-9876"),
    "kr_rrn": ("RRN", "900101-1234568"),
    "kr_passport": ("여권", "M12345678"),
    "tr_national_id": ("TC kimlik no", "17291716060"),
    "th_tnin": ("TNIN", "1101700230708"),
    "ng_nin": ("NIN", "23456789019"),
    "ph_tin": ("TIN", "123-456-782"),
    "ph_umid": ("UMID", "0111-1234567-8"),
    "za_id_number": ("South African ID", "8001015009087"),
}
"""Cue words and an identifier: published examples, or with check digits calculated by hand."""
CHECKED = (
    *("us_npi", "us_dea_number", "us_routing_number", "au_abn", "au_acn", "de_tax_id", "it_vat_code"),
    *("pl_pesel", "se_personnummer", "tr_national_id", "th_tnin", "ng_nin", "za_id_number"),
)
"""Identifiers whose last digit follows from the others."""


def found(text: str) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in scanner().scan(text)]


def test_there_is_a_sample_of_every_kind() -> None:
    assert set(SAMPLES) == {d.kind for d in DETECTORS if d.recognizer}


@pytest.mark.parametrize("kind", SAMPLES)
def test_it_is_found_behind_its_words(kind: str) -> None:
    words, value = SAMPLES[kind]
    assert found(f"Please note: {words} {value}, thanks.") == [(kind, value)]


@pytest.mark.parametrize("kind", CHECKED)
def test_with_another_last_digit_it_is_nothing(kind: str) -> None:
    words, value = SAMPLES[kind]
    wrong = value[:-1] + str((int(value[-1]) + 3) % 10)
    assert found(f"{words} {wrong}") == []


def test_it_is_not_searched_far_from_its_cue_words() -> None:
    words, value = SAMPLES["pl_pesel"]
    between = "x" * (FROM + 1)
    assert found(f"{words} {between} {value}") == []


@given(st.lists(st.sampled_from(sorted(SAMPLES)), max_size=4), st.integers(0, 2**32))
def test_words_without_an_identifier_are_nothing(kinds: list[str], seed: int) -> None:
    rng = random.Random(seed)
    plain = "".join(rng.choice(string.ascii_lowercase + "    ") for _ in range(80))
    assert found(f" {plain} ".join(SAMPLES[kind][0] for kind in kinds)) == []


def test_more_words_than_anybody_writes_hide_nothing() -> None:
    words, value = SAMPLES["pl_pesel"]
    text = f"{words} 1 {'-' * 60} " * (2 * BUDGET) + f"{words} {value}"
    assert any(one.start <= text.rindex(value) and one.end == len(text) for one in scanner().scan(text))


def test_presidio_gets_few_words_and_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    from presidio_analyzer import PatternRecognizer  # takes a second to load

    # InPanRecognizer alone needs over 20 s for 100,000 characters at once, and four times that for twice as many.
    asked: list[str] = []
    monkeypatch.setattr(PatternRecognizer, "analyze", lambda _, text, *__: asked.append(text))
    scanner().scan("pan 1234 " * 12_000)
    assert BUDGET <= len(asked) <= BUDGET + TRIES
    assert max(map(len, asked)) <= WINDOW


def test_policies_name_exactly_the_kinds_that_are_detected() -> None:
    assert {detector.kind: detector.category for detector in DETECTORS} == dict(KINDS)

"""Comparison with Presidio on the same generated texts: as many findings, and fewer false ones."""

from __future__ import annotations

from guardrails.scanner import Scanner

from .generated import Sample, lookalikes, real

NAMES = {
    "EMAIL_ADDRESS": "email",
    "CREDIT_CARD": "credit_card",
    "IBAN_CODE": "iban",
    "US_SSN": "us_ssn",
    "PHONE_NUMBER": "phone",
    "IP_ADDRESS": "ip_address",
}
SAMPLES = real(600, seed=11) + lookalikes(600, seed=12)
Found = set[tuple[int, str]]


def presidio() -> Found:
    """(number of the text, kind) of findings of Presidio's pattern recognizers, without a language model."""
    import tldextract
    from presidio_analyzer import predefined_recognizers as theirs

    # The bundled list of domains, so that nothing is requested over the network.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    recognizers = [
        theirs.EmailRecognizer(),
        theirs.CreditCardRecognizer(),
        theirs.IbanRecognizer(),
        theirs.UsSsnRecognizer(),
        theirs.PhoneRecognizer(),
        theirs.IpRecognizer(),
    ]
    return {
        (number, NAMES[result.entity_type])
        for number, sample in enumerate(SAMPLES)
        for recognizer in recognizers
        for result in recognizer.analyze(sample.text, recognizer.supported_entities, None) or []  # type: ignore[arg-type]
    }


def ours() -> Found:
    scanner = Scanner()
    return {(n, found.kind) for n, sample in enumerate(SAMPLES) for found in scanner.scan(sample.text)}


def rates(found: Found, samples: list[Sample]) -> tuple[float, float]:
    """Recall and precision."""
    there = {(number, sample.kind) for number, sample in enumerate(samples) if sample.kind}
    return len(found & there) / len(there), len(found & there) / len(found)


def test_recall_is_at_least_presidios_and_precision_better() -> None:
    (recall, precision), (their_recall, their_precision) = rates(ours(), SAMPLES), rates(presidio(), SAMPLES)
    print(f"recall {recall:.3f} ({their_recall:.3f}), precision {precision:.3f} ({their_precision:.3f})")
    assert recall >= their_recall
    assert precision > their_precision

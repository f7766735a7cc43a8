r"""What is looked for: for each kind a hint, which Hyperscan finds in all texts at once, and what it then has to be.

Hints may be too wide; what they find is found again exactly by RE2, in linear time whatever is sent, and has to pass a
check. Identifiers that only words give away are for Presidio's recognizers, which are asked where the words are. Formats of tokens are those that their issuers publish (GitHub, AWS, Slack, Stripe, Google, OpenAI, Anthropic).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kit.guard_policy import Category

from guardrails import checks

Check = Callable[[str, int, int], int]
"""Is given a text, and first and last place of what may be it; returns where it ends, or 0: it is not."""


@dataclass(frozen=True)
class Detector:
    """One kind of thing."""

    kind: str
    category: Category
    exact: str
    """RE2; the group "v", if there is one, is what is found."""
    check: Check | None = None
    context: str = ""
    """RE2 that has to be found in the characters before it; empty: nothing has to."""
    hint: str = ""
    """For Hyperscan; empty: `exact`."""
    weight: float = 1.0
    """How sure it is, of 1; several injections add up."""
    recognizer: str = ""
    """Presidio's recognizer that says what follows `exact`, which then is words that tell of it."""


def _pii(kind: str, exact: str, check: Check | None = None, context: str = "", hint: str = "") -> Detector:
    return Detector(kind, Category.PII, exact, check, context, hint)


def _said(kind: str, recognizer: str, words: str) -> Detector:
    return Detector(kind, Category.PII, f"(?i)(?:{words})", recognizer=recognizer)


def _secret(kind: str, exact: str, check: Check | None = None, hint: str = "") -> Detector:
    return Detector(kind, Category.SECRET, exact, check, hint=hint)


def _injection(kind: str, exact: str, weight: float) -> Detector:
    return Detector(kind, Category.INJECTION, "(?i)" + exact, weight=weight)


_SAY = r"(?:all |any |the |your |these |those |my )*(?:of )?(?:the |your |my )?(?:previous|prior|above|earlier|preceding|foregoing|existing|original|initial|system)"
_ORDERS = r"(?:instructions?|prompts?|directions?|directives?|rules?|guidelines?|commands?|messages?|context|constraints?|programming)"

_PRIVATE = "(?:[A-Z]{2,20} )?PRIVATE KEY-----"
_BASE64 = "[A-Za-z0-9+/=]"
_BREAK = r"[ \t]*(?:\r?\n|\\n|\\r\\n)"
_LINES = rf"(?:{_BREAK}(?:(?:Proc-Type|DEK-Info): [^\n]{{1,80}}(?:{_BREAK})?|{_BASE64}+)| +{_BASE64}{{40,}})*"
"""Of a key whose end is not there (yet)."""

_IDENTIFIERS = (
    _said("us_mbi", "UsMbiRecognizer", r"\bmbi\b|medicare|beneficiary"),
    _said("us_npi", "UsNpiRecognizer", r"\bnpi\b|national provider"),
    _said("us_dea_number", "MedicalLicenseRecognizer", r"\bdea\b|medical licen[cs]e"),
    _said("us_driver_license", "UsLicenseRecognizer", r"driver'?s? licen[cs]e"),
    _said(
        "us_health_insurance_id", "UsHealthInsuranceMemberIdRecognizer", r"(?:member|subscriber) id|health insurance"
    ),
    _said("us_routing_number", "AbaRoutingRecognizer", r"\brouting (?:no|num|transit)|\baba\b"),
    _said("ca_sin", "CaSinRecognizer", r"\bsin\b|social insurance|assurance sociale"),
    _said("au_medicare", "AuMedicareRecognizer", r"medicare"),
    _said("au_abn", "AuAbnRecognizer", r"\babn\b|australian business"),
    _said("au_acn", "AuAcnRecognizer", r"\bacn\b|australian company"),
    _said("in_pan", "InPanRecognizer", r"\bpan\b|permanent account"),
    _said("in_gstin", "InGstinRecognizer", r"\bgst(?:in)?\b"),
    _said("in_voter", "InVoterRecognizer", r"\bvoter"),
    _said("in_passport", "InPassportRecognizer", r"passport"),
    _said("uk_passport", "UkPassportRecognizer", r"passport"),
    _said("uk_driving_licence", "UkDrivingLicenceRecognizer", r"driving licen[cs]e|\bdvla\b"),
    _said("sg_nric", "SgFinRecognizer", r"\bnric\b|\bfin\b"),
    _said("de_tax_id", "DeTaxIdRecognizer", r"steuer-?id|steuernummer|\bidnr\b|steuerliche identifikation"),
    _said("de_social_security", "DeSocialSecurityRecognizer", r"versicherungsn|\bsvnr\b|\brvnr\b|sv-nummer"),
    _said("de_health_insurance", "DeHealthInsuranceRecognizer", r"krankenversicher|versichertenn|\bkvnr\b"),
    _said("de_driving_licence", "DeFuehrerscheinRecognizer", r"f(?:ü|ue)hrerschein|fahrerlaubnis"),
    _said("es_passport", "EsPassportRecognizer", r"pasaporte"),
    _said("it_driver_license", "ItDriverLicenseRecognizer", r"\bpatente\b"),
    _said("it_vat_code", "ItVatCodeRecognizer", r"partita iva|\bp\.? ?iva\b"),
    _said("pl_pesel", "PlPeselRecognizer", r"\bpesel\b"),
    _said("fi_personal_identity_code", "FiPersonalIdentityCodeRecognizer", r"\bhetu\b|henkil|personal identity code"),
    _said("se_personnummer", "SePersonnummerRecognizer", r"personnummer|samordningsnummer|personal identity number"),
    _said("kr_rrn", "KrRrnRecognizer", r"\brrn\b|resident registration|주민등록"),
    _said("kr_passport", "KrPassportRecognizer", r"passport|여권"),
    _said("tr_national_id", "TrNationalIdRecognizer", r"kimlik|\btckn\b"),
    _said("th_tnin", "ThTninRecognizer", r"\btnin\b|thai (?:national )?id|ประชาชน"),
    _said("ng_nin", "NgNinRecognizer", r"\bnin\b|national identi(?:ty|fication) number"),
    _said("ph_tin", "PhTinRecognizer", r"\btin\b|taxpayer id"),
    _said("ph_umid", "PhUmidRecognizer", r"\bumid\b|\bcrn\b"),
    _said("za_id_number", "ZaIdNumberRecognizer", r"\b(?:sa|rsa|african|smart|national) id\b|identity number"),
)
"""Words that tell of an identifier, from those that Presidio's recognizers take for context."""
DETECTORS: tuple[Detector, ...] = (
    _pii(
        "email",
        r"[A-Za-z0-9._%+\-]{1,64}@(?:[A-Za-z0-9\-]{1,63}\.){1,8}[A-Za-z]{2,24}\b",
        checks.email,
        hint=r"[A-Za-z0-9._%+\-]@[A-Za-z0-9\-]+\.",
    ),
    _pii("credit_card", r"\b\d(?:[ \-]?\d){11,18}\b", checks.card, hint=r"\d(?:[ \-]?\d){11}"),
    _pii("iban", r"(?i)\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b", checks.iban, hint=r"[A-Za-z]{2}\d{2} ?[A-Za-z0-9]{4}"),
    _pii("us_ssn", r"\b\d{3}-\d{2}-\d{4}\b|\b\d{3} \d{2} \d{4}\b", checks.ssn, hint=r"\d{3}[ \-]\d{2}[ \-]\d{4}"),
    _pii("us_ssn", r"\b\d{9}\b", checks.ssn, r"(?i)\bssn\b|social security"),
    _pii("us_itin", r"\b9\d{2}[ \-]\d{2}[ \-]\d{4}\b", checks.itin, hint=r"9\d{2}[ \-]\d{2}[ \-]\d{4}"),
    _pii(
        "phone",
        r"(?:\+|\b00)\d{1,3}(?:[ .\-]?\(?\d{1,4}\)?){2,6}|(?:\b|\()\d{3}\)?[ .\-]{1,2}\d{3}[ .\-]\d{4}\b",
        checks.phone,
        hint=r"(?:\+|00)\d[\d (.\-]{6}|\d{3}\)?[ .\-]{1,2}\d{3}[ .\-]\d{4}",
    ),
    _pii("ip_address", r"\b(?:\d{1,3}\.){3}\d{1,3}\b", checks.address),
    _pii(
        "ip_address",
        r"(?i)\b(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4})(?::[0-9a-f]{1,4}){0,6}\b",
        checks.address,
        hint=r"[0-9a-fA-F]{1,4}:[0-9a-fA-F]{0,4}:[0-9a-fA-F]{1,4}",
    ),
    _pii("mac_address", r"(?i)\b(?:[0-9a-f]{2}[:\-]){5}[0-9a-f]{2}\b", checks.separate),
    _pii("crypto", r"\b[13][1-9A-HJ-NP-Za-km-z]{25,34}\b", checks.bitcoin),
    _pii("crypto", r"\bbc1[02-9ac-hj-np-z]{11,71}\b|\b0x[0-9a-fA-F]{40}\b", checks.separate),
    _pii("es_nif", r"(?i)\b[XYZ]?\d{7,8}-?[A-Z]\b", checks.spanish, hint=r"\d{7}-?[A-Za-z]"),
    _pii("it_fiscal_code", r"(?i)\b[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]\b", checks.italian),
    _pii("uk_nino", r"(?i)\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b", checks.separate),
    _pii("uk_nhs", r"\b\d{3}[ \-]?\d{3}[ \-]?\d{4}\b", checks.british_health, r"(?i)\bnhs\b"),
    _pii("in_aadhaar", r"\b[2-9]\d{3} ?\d{4} ?\d{4}\b", checks.indian, r"(?i)aadhaar|\buid"),
    _pii("au_tfn", r"\b\d{3} ?\d{3} ?\d{2,3}\b", checks.australian, r"(?i)\btfn\b|tax file"),
    _pii("us_passport", r"(?i)\b[A-Z]?\d{8,9}\b", checks.separate, r"(?i)passport"),
    _pii("us_bank_number", r"\b\d{8,17}\b", checks.separate, r"(?i)bank account|account (?:number|no)|\bacct"),
    _pii(
        "date_of_birth",
        r"(?i)\b(?:born(?: on)?|birth ?date|date of birth|dob)\W{1,4}(?P<v>\d{1,4}[/.\-]\d{1,2}[/.\-]\d{1,4})\b",
    ),
    *_IDENTIFIERS,
    _secret("aws_access_key", r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z2-7]{16}\b", checks.separate),
    _secret("github_token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})\b"),
    _secret("gitlab_token", r"\bglpat-[A-Za-z0-9_\-]{20,64}\b"),
    _secret("slack_token", r"\bxox[abeoprs]-[A-Za-z0-9\-]{10,}\b"),
    _secret("stripe_key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,99}\b"),
    _secret("google_api_key", r"\bAIza[A-Za-z0-9_\-]{35}\b"),
    _secret("openai_key", r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_\-]{32,}\b", checks.entropy),
    _secret("anthropic_key", r"\bsk-ant-[A-Za-z0-9_\-]{20,}\b"),
    _secret("platform_key", r"\bcf-[A-Za-z0-9_\-]{40,64}\b", checks.entropy),
    _secret("npm_token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    _secret("pypi_token", r"\bpypi-[A-Za-z0-9_\-]{50,}\b"),
    _secret("jwt", r"\beyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)?"),
    _secret(
        "private_key",
        rf"-----BEGIN {_PRIVATE}(?:(?:[A-Za-z0-9+/=\s\\:,]|-[A-Za-z0-9])*?-----END {_PRIVATE}|{_LINES})",
        hint=f"-----BEGIN {_PRIVATE}",
    ),
    _secret("url_password", r"\b[a-z][a-z0-9+.\-]{1,20}://[^\s:/@]{1,}:(?P<v>[^\s:/@]{3,})@"),
    _secret(
        "password",
        r"(?i)\b(?:password|passwd|pwd|secret|api[_\-]?key|access[_\-]?token|auth[_\-]?token)[\"']?\s{0,3}(?:=|:|:=|=>| is )\s{0,3}[\"']?(?P<v>[^\s\"',;]{8,})",
        checks.entropy,
    ),
    _injection(
        "override",
        rf"\b(?:ignore|disregard|forget|override|bypass|skip|neglect|do not follow|don'?t follow|stop following)\s+{_SAY}\s+{_ORDERS}",
        1.0,
    ),
    _injection(
        "override",
        r"\b(?:ignore|disregard|forget|override|bypass)\s+(?:everything|all|anything)\s+(?:(?:that )?(?:you(?:'ve| have)? (?:been told|were told|know|learned)|i said|was said|came before|above|before|prior))",
        1.0,
    ),
    _injection("override", rf"\b(?:ignore|disregard|forget|override|bypass)\s+(?:all |any |your )+{_ORDERS}", 0.8),
    _injection(
        "new_role",
        r"\b(?:you are now|from now on,? you(?:'re| are)|you will now (?:be|act)|pretend (?:to be|that you are|you are)|act as (?:if you were|an? (?:unrestricted|uncensored|unfiltered|evil|jailbroken)))",
        0.5,
    ),
    _injection(
        "jailbreak",
        r"\b(?:DAN mode|do anything now|developer mode (?:enabled|on)|jailbreak(?:ed)?|god mode|unrestricted (?:ai|mode|assistant)|without any (?:restrictions|filters|limitations|ethical)|no (?:ethical|moral) (?:guidelines|constraints))",
        0.7,
    ),
    _injection(
        "leak",
        r"\b(?:reveal|show|print|output|repeat|display|tell me|give me|leak|expose|write out|what (?:is|are|were))\s+(?:me\s+)?(?:your|the)\s+(?:full |entire |exact |complete |original |initial |hidden |secret |internal )*(?:system |initial |hidden )?(?:prompt|instructions|system message|configuration)\b",
        0.8,
    ),
    _injection("leak", r"\brepeat (?:the|all|every) (?:words?|text|everything|lines?) (?:above|before|verbatim)", 0.9),
    _injection(
        "markup",
        r"<\|(?:im_start|im_end|system|endoftext|start_header_id|eot_id)\|>|\[/?(?:INST|SYS)\]|<</?SYS>>|^#{2,3} ?(?:system|instruction)s?:",
        0.9,
    ),
    _injection("markup", r"(?m)^\s*(?:system|assistant)\s*:\s*\S", 0.4),
    _injection("exfiltration", r"!\[[^\]]{0,80}\]\(https?://[^)\s]{1,400}(?:\?|&)[a-z_]{1,20}=", 0.6),
    _injection(
        "smuggling", r"\b(?:base64|rot13|hex)[ -]?(?:decode|encoded)[^.\n]{0,60}\b(?:execute|follow|run|obey)\b", 0.6
    ),
)
"""In order: where two findings overlap, the longer one holds, then the earlier detector."""
INJECTED = 0.8
"""Weight of all injections in a text from which on it is one."""

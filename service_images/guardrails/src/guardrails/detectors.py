"""All detectors: for each form of a kind, a hint for Hyperscan, an exact expression, and a check.

Expressions match folded texts (see `folding`), in which digits of all scripts, spaces, dashes and letters that look
like Latin ones are ASCII. Hints may match too much; RE2 then matches exactly, in linear time, and a check decides.
Identifiers that are recognisable only by announcing words are left to Presidio's recognizers, which see the text after
the words. Formats of tokens are those that their issuers publish (GitHub, AWS, Slack, Stripe, Google, OpenAI,
Anthropic). Groupings of numbers are those that issuers print.
"""

from __future__ import annotations

from kit.guard_policy import Category

from guardrails import checks, numbers
from guardrails.checks import Check
from guardrails.detector import Detector
from guardrails.folding import pattern
from guardrails.hints import Part
from guardrails.injections import INJECTIONS
from guardrails.readings import BLOB_HINT

S = r"[\s.\-_/]{0,3}"
"""Separator between groups of a number: nothing, spaces, a line break, a dot, a dash or a slash."""
_SPACE = r"[ .\-_/]{0,3}"
_ROW = rf"\d(?:{S}\d){{6}}"
"""Hint for kinds that need announcing words. Each has at least seven digits."""


def _pii(
    kind: str,
    exact: str,
    check: Check | None = None,
    context: str = "",
    hint: str = "",
    *,
    after: bool = False,
    part: Part = Part.WORDS,
) -> Detector:
    return Detector(kind, Category.PII, exact, check, pattern(context), hint, part, after=after)


def _row(kind: str, exact: str, check: Check, context: str, *, after: bool = False) -> Detector:
    """A detector for seven or more digits with announcing words."""
    return _pii(kind, exact, check, context, _ROW, after=after, part=Part.DIGITS)


def _said(kind: str, recognizer: str, words: str) -> Detector:
    return Detector(kind, Category.PII, pattern(f"(?i)(?:{words})"), recognizer=recognizer)


def _secret(kind: str, exact: str, check: Check | None = checks.token, hint: str = "") -> Detector:
    return Detector(kind, Category.SECRET, exact, check, hint=hint)


_PRIVATE = "(?:[A-Z]{2,20} )?PRIVATE KEY-----"
_BASE64 = "[A-Za-z0-9+/=]"
_BREAK = r"[ \t]*\r?\n"
_LINES = rf"(?:{_BREAK}(?:(?:Proc-Type|DEK-Info): [^\n]{{1,80}}(?:{_BREAK})?|{_BASE64}+)| +{_BASE64}{{40,}})*"
"""Lines of a key without an end marker."""
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mai|okt|dez)[a-z]{0,7}"
_DATE = rf"(?:\d{{1,4}}[/.\- ]{{1,2}}\d{{1,2}}[/.\- ]{{1,2}}\d{{1,4}}|\d{{1,2}}(?:st|nd|rd|th|\.)?[ \-]{{1,2}}(?:of )?{_MONTH}\.?[ ,\-]{{1,2}}\d{{2,4}}|{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?,? {{1,2}}\d{{2,4}})"
_BORN = "born(?: on| in)?|birth ?date|birthday|date of birth|dob|geboren(?: am)?|geburtsdatum|n[eé]e? le|date de naissance|nacid[oa] el|fecha de nacimiento"
PASSWORD = "password|passwd|passwort|kennwort|pwd|passphrase|secret|api[_\\-]?key|access[_\\-]?token|auth[_\\-]?token|contraseña|mot de passe|senha|пароль|密码|密碼|パスワード|비밀번호"

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
    _said("de_driving_licence", "DeFuehrerscheinRecognizer", r"f(?:u|ue)hrerschein|fahrerlaubnis"),
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
"""Words that announce an identifier, from the context words of Presidio's recognizers."""
_FORMS: tuple[Detector, ...] = (
    _pii("email", "@", checks.email, hint=r"[^\s@]@[^\s@]+[.\xe3]"),
    _pii("credit_card", rf"\d(?:{S}\d){{11,}}", numbers.card, hint=rf"\d(?:{S}\d){{11}}", part=Part.DIGITS),
    _pii(
        "iban",
        rf"(?i)[A-Z]{{2}}\d{{2}}(?:{S}[A-Z0-9]){{11,34}}",
        numbers.iban,
        hint=rf"[A-Za-z]{{2}}\d{{2}}{S}[A-Za-z0-9]{{4}}",
        part=Part.PAIRS,
    ),
    _pii(
        "us_ssn",
        r"\d{3} ?- ?\d{2} ?- ?\d{4}|\d{3} {1,2}\d{2} {1,2}\d{4}",
        checks.ssn,
        hint=r"\d{3}[ \-]{1,3}\d{2}[ \-]{1,3}\d{4}",
    ),
    _row("us_ssn", rf"\d{{3}}{S}\d{{2}}{S}\d{{4}}", checks.ssn, r"(?i)\bssns?\b|social security", after=True),
    _pii("us_itin", r"9\d{2}[ \-]{1,3}\d{2}[ \-]{1,3}\d{4}", checks.itin),
    _row("us_itin", rf"9\d{{2}}{S}\d{{2}}{S}\d{{4}}", checks.itin, r"(?i)\bitin\b|individual taxpayer"),
    _pii(
        "phone",
        r"(?:\+|00)[ (]?\d{1,4}(?:[ .\-/()]{0,3}\d{1,12}\)?){1,8}|\(?\d{3}\)?[ .\-/]{1,3}\d{3}[ .\-]{1,3}\d{4}",
        numbers.phone,
        hint=r"(?:\+|00)[ (]?\d[\d (.\-)/]{6}|\d{3}\)?[ .\-/]{1,3}\d{3}[ .\-]{1,3}\d{4}",
        part=Part.DIGITS,
    ),
    _pii(
        "phone",
        r"\(?0\d{1,5}\)?(?:[ .\-/]{0,2}\d{2,8}){1,5}|\d{3}[ .\-]?\d{3}[ .\-]?\d{4}",
        numbers.phone,
        r"(?i)\btel|phone|\bfon\b|mobil|\bcell|\bcall|\bfax|\bhandy|whatsapp|\bsms\b|\bdial|movil|电话|電話|전화|тел",
        part=Part.DIGITS,
    ),
    _pii("ip_address", r"(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?", checks.ipv4, hint=r"\d\.\d{1,3}\.\d{1,3}\.\d"),
    _pii(
        "ip_address",
        r"(?i)(?:[0-9a-f]{0,4}:){2,8}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-f]{1,4})?(?:%[0-9a-z._~\-]{1,16})?(?:/\d{1,3})?",
        checks.ipv6,
        hint=r"[0-9a-fA-F]::|::[0-9a-fA-F]{1,4}[:.]|(?:[0-9a-fA-F]{1,4}:){6}",
        part=Part.PAIRS,
    ),
    _pii("mac_address", r"(?i)(?:[0-9a-f]{2}[:\-]){5}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}", checks.mac),
    _pii("crypto", r"[13][1-9A-HJ-NP-Za-km-z]{25,34}", checks.bitcoin, hint=BLOB_HINT),
    _pii("crypto", r"bc1[02-9ac-hj-np-z]{11,71}|0x[0-9a-fA-F]{40}", checks.separate),
    _pii(
        "es_nif",
        r"(?i)(?:[XYZKLM]-?)?\d{1,2}(?:\d{6}|\.\d{3}\.\d{3})-?[A-Z]",
        checks.spanish,
        hint=r"\d{7}-?[A-Za-z]|\.\d{3}\.\d{3}-?[A-Za-z]",
        part=Part.DIGITS,
    ),
    _row(
        "es_nif",
        rf"(?i)(?:[XYZKLM]{S})?\d{{1,2}}{S}\d{{3}}{S}\d{{3}}{S}[A-Z]",
        checks.spanish,
        r"(?i)\b(?:dni|nif|nie|cif)\b",
    ),
    _pii(
        "it_fiscal_code",
        rf"(?i)[A-Z]{{3}}{S}[A-Z]{{3}}{S}[\dLMNP-V]{{2}}[A-EHLMPR-T][\dLMNP-V]{{2}}{S}[A-Z][\dLMNP-V]{{3}}{S}[A-Z]",
        checks.italian,
        part=Part.LETTERS,
    ),
    _pii(
        "uk_nino",
        rf"(?i)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]{S}\d{{2}}{S}\d{{2}}{S}\d{{2}}{S}[A-D]",
        checks.british,
        part=Part.LETTERS,
    ),
    _row("uk_nhs", rf"\d{{3}}{S}\d{{3}}{S}\d{{4}}", checks.british_health, r"(?i)\bnhs\b", after=True),
    _row("in_aadhaar", rf"[2-9]\d{{3}}{S}\d{{4}}{S}\d{{4}}", checks.indian, r"(?i)a+dh?aa?r|\buid|आधार", after=True),
    _row("au_tfn", rf"\d{{2,3}}{S}\d{{3}}{S}\d{{3}}", checks.australian, r"(?i)\btfn\b|tax file", after=True),
    _row("us_passport", r"(?i)[A-Z]?\d{8,9}", checks.separate, r"(?i)passport"),
    _row(
        "us_bank_number", rf"\d(?:{_SPACE}\d){{7,}}", numbers.account, r"(?i)bank account|account (?:number|no)|\bacct"
    ),
    _pii("date_of_birth", pattern(rf"(?i)(?:\b|[^\x00-\x7f])(?:{_BORN})\W{{1,4}}(?P<v>{_DATE})\b")),
    *_IDENTIFIERS,
    _secret("aws_access_key", r"(?:AKIA|ASIA|AROA|AIDA)[A-Z2-7]{16}"),
    _secret("github_token", r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}"),
    _secret("gitlab_token", r"gl(?:pat|oas|dt|rt|ptt|ft|cbt|imt|soat|agent|ffct)-[A-Za-z0-9_\-]{20,64}"),
    _secret("slack_token", r"x(?:ox[abcdeoprs]|app)-[A-Za-z0-9%\-]{10,}"),
    _secret("stripe_key", r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    _secret("google_api_key", r"AIza[A-Za-z0-9_\-]{35}"),
    _secret("anthropic_key", r"sk-ant-[A-Za-z0-9_\-]{20,}"),
    _secret("openai_key", r"sk-(?:proj-|svcacct-)?[A-Za-z0-9_\-]{32,}", checks.openai),
    _secret("platform_key", r"cf-[A-Za-z0-9_\-]{40,64}", checks.keyed),
    _secret("npm_token", r"npm_[A-Za-z0-9]{36}"),
    _secret("pypi_token", r"pypi-[A-Za-z0-9_\-]{50,}"),
    _secret("jwt", r"eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)?"),
    _secret(
        "private_key",
        rf"-----BEGIN {_PRIVATE}(?:(?:[A-Za-z0-9+/=\s\\:,]|-[A-Za-z0-9])*?-----END {_PRIVATE}|{_LINES})",
        None,
        hint=f"-----BEGIN {_PRIVATE}",
    ),
    _secret("url_password", r"[a-z][a-z0-9+.\-]{1,20}://[^\s:/@]*:(?P<v>[^\s/@]{3,})@", None),
    _secret(
        "password",
        pattern(
            rf"(?i)(?:{PASSWORD})[\"']?\s{{0,3}}(?:=|:|:=|=>| is | ist | est )\s{{0,3}}[\"']?(?P<v>[^\s\"',;]{{8,}})"
        ),
        checks.entropy,
    ),
)
DETECTORS: tuple[Detector, ...] = (*_FORMS, *INJECTIONS)
"""All detectors in order of precedence. Of overlapping findings with the same action, the longer one wins, then the
earlier detector."""

"""Detectors of prompt injection: phrases in several languages, prompt markup, and ways to exfiltrate data.

Expressions match folded texts. English has the widest coverage; for thirteen other languages, requests to ignore
earlier instructions are covered.
"""

from __future__ import annotations

import re

from kit.guard_policy import Category

from guardrails.checks import Spans
from guardrails.detector import Detector
from guardrails.folding import pattern

W = r"[\s*_~`\"',.:;>\-]+"
"""Separator between words, including Markdown markup and punctuation."""
_VERBS = "ignore|disregard|forget|override|bypass|neglect|do not follow|don'?t follow|stop following"
_OF = rf"(?:(?:all|any|the|your|these|those|my|of|every|each|other){W})*"
_EARLIER = "previous|prior|above|earlier|preceding|foregoing|existing|original|initial|system|past"
_ORDERS = "instructions?|prompts?|directions?|directives?|rules?|guidelines?|commands?|constraints?|programming"
_SOFTLY = r"\s+(?:to\s+|ever\s+|simply\s+|just\s+|please\s+|accidentally\s+|try to\s+)*$"
_NOT = re.compile(
    rf"(?i)(?:n'?t|\bnot|\bcannot|\bnever|\bpas|\bno|\bn[aã]o|\bnon|\bnie){_SOFTLY}|(?:不要|不能|不可|请勿|勿|别|不)$"
)
_NOT_RUSSIAN = re.compile(rf"(?i)\b{pattern('не')}{_SOFTLY}")
"""In capitals, this word is folded to the English "HE", which is no negation."""
_WHY_NOT = re.compile(r"(?i)\bwhy (?:do |did |should )?(?:not|n't)\s*$")


def commanded(text: str, start: int, end: int) -> Spans:
    """Whether it is a command, and not a negated one such as "do not ignore the previous instructions"."""
    before = text[max(0, start - 40) : start]
    forbidden = _NOT.search(before) or (not text[start:end].isascii() and _NOT_RUSSIAN.search(before))
    return () if forbidden and not _WHY_NOT.search(before) else ((start, end),)


def _injection(kind: str, exact: str, weight: float = 1.0, hint: str = "") -> Detector:
    return Detector(kind, Category.INJECTION, pattern(f"(?i){exact}"), commanded, hint=hint, weight=weight)


_EARLIER_RUSSIAN = "предыдущ|прошл|предшествующ |вышеуказанн|первоначальн"
_RUSSIAN = rf"(?:про)?(?:игнорируй\S*|забудь\S*|не\s+обращай\S*\s+внимания\s+на)\s+(?:(?:про|обо?|все|всё|всех|свои|твои|ваши|эти)\s+)*(?:{_EARLIER_RUSSIAN})\S*\s+(?:инструкци|указани|правил|команд)"
_OTHER_LANGUAGES = (
    r"(?:ignorier\S*|vergiss|vergessen sie|missachte\S*)\s+(?:(?:alle|die|deine|ihre|all|meine|diese|saemtliche|sämtliche|bitte)\s+)*(?:vorherige\S*|vorigen?|bisherige\S*|obige\S*|frühere\S*|ursprüngliche\S*|vorangegangene\S*)\s+(?:anweisung|instruktion|regel|befehl|vorgabe|prompt|aufforderung)",
    r"(?:ignore[zr]?|oublie[zr]?|ne tien[sz] pas compte)\s+(?:(?:toutes?|tous|les?|vos|tes|ces|des)\s+)*(?:instructions?|consignes|règles|directives|ordres)\s+(?:précédent|antérieur|ci-dessus|initial|d'origine|du système)",
    r"(?:ignor(?:a|e|en|ar)|olvid(?:a|e|en|ar)|descart(?:a|e|en))\s+(?:(?:todas?|todos|las?|los?|tus|sus|mis|estas)\s+)*(?:(?:instrucciones|indicaciones|reglas|órdenes|directrices)\s+(?:anterior|previa|de arriba|original|inicial|del sistema)|(?:anteriores|previas)\s+(?:instrucciones|indicaciones|reglas|órdenes))",
    r"(?:ignor(?:e|a|em|ar)|esque[cç]\S+|desconsider\S+)\s+(?:(?:todas?|as?|os?|suas?|das?)\s+)*(?:instruções|regras|ordens|diretrizes|comandos)\s+(?:anterior|prévia|acima|origina|inicia|do sistema)",
    r"(?:ignor(?:a|are|ate|i)|dimentica\S*)\s+(?:(?:tutte|tutti|le|i|gli|tue|sue)\s+)*(?:istruzioni|regole|indicazioni|direttive|comandi)\s+(?:precedent|anterior|originali|iniziali|di sistema|sopra)",
    r"(?:negeer|vergeet)\s+(?:(?:alle|de|je|uw|jouw|al)\s+)*(?:vorige|eerdere|voorgaande|bovenstaande|oorspronkelijke)\s+(?:instructies|opdrachten|regels|aanwijzingen)",
    r"(?:zignoruj\S*|ignoruj\S*|zapomnij\S*)\s+(?:o\s+)?(?:wszystk\S+\s+)?(?:poprzedni\S*|wcześniejsz\S*|powyższ\S*)\s+(?:instrukcj|polece|zasad)",
    r"(?:önceki|yukarıdaki)\s+(?:tüm\s+|bütün\s+)?(?:talimat|komut|yönerge|kural)\S*\s+(?:yok say|görmezden gel|unut(?:un)?\b|dikkate alma)",
    r"(?:忽略|无视|忘记|忘掉|無視|忽視)(?:所有|一切|全部|你|您|的|掉|您的)*(?:之前|以上|先前|前面|上面|上述|此前|系统|系統)(?:所有|全部|的|给出|一切|給出)*(?:指令|指示|提示|命令|规则|規則|要求|设定|說明|说明)",
    r"(?:これまで|以前|以上|上記|前|先|すべて|全て|全|システム)(?:の|すべて|全て|全)*(?:指示|命令|プロンプト|ルール|指令)(?:を|は)?(?:すべて|全て)?(?:無視し|忘れ)(?:て|ろ|なさい)",
    r"(?:이전|위|앞|기존|지금까지|모든|시스템)(?:의|에|\s)*(?:모든\s*)?(?:지시|명령|프롬프트|규칙|지침)(?:사항)?(?:들)?(?:을|를|은|는)?\s*(?:모두\s*)?(?:무시(?:하고|해|하세요|하라|하십시오)|잊(?:어|고|으세요))",
    r"(?:abaikan)\s+(?:semua\s+)?(?:instruksi|perintah|aturan)\s+(?:sebelumnya|di atas)|bỏ qua\s+(?:tất cả\s+)?(?:các\s+)?(?:hướng dẫn|chỉ dẫn|lệnh)\s+(?:trước|ở trên)|(?:تجاهل|انس)\s+(?:جميع\s+|كل\s+)?(?:التعليمات|الأوامر|القواعد)\s+(?:السابقة|أعلاه)|(?:पिछले|पूर्व)\s+(?:सभी\s+)?(?:निर्देशों|आदेशों)\s+(?:को\s+)?(?:अनदेखा|नज़रअंदाज़|भूल)",
)
INJECTIONS: tuple[Detector, ...] = (
    _injection("override", rf"\b(?:{_VERBS}){W}{_OF}(?:{_EARLIER}){W}(?:(?:{_EARLIER}|and|or){W})*(?:{_ORDERS})"),
    _injection("override", rf"\b(?:{_VERBS}){W}(?:(?:all|any|the|of){W})+(?:{_EARLIER}){W}(?:messages?|context)"),
    _injection("override", rf"\b(?:{_VERBS}){W}{_OF}(?:{_ORDERS}){W}(?:(?:that|were|was|given|you|have|i|to|gave|been){W})*(?:above|before|previously|so far|earlier)"),
    _injection("override", r"\b(?:ignore|disregard|forget|override|bypass)\s+(?:everything|all|anything)\s+(?:(?:that )?(?:you(?:'ve| have)? (?:been told|were told|know|learned)|i said|was said|came before|above|before|prior))"),
    _injection("override", rf"\b(?:ignore|disregard|forget|override|bypass)\s+(?:all |any |your )+(?:{_ORDERS})", 0.8),
    _injection("override", rf"\bskip{W}{_OF}(?:{_EARLIER}){W}(?:{_ORDERS})", 0.5),
    # The text with letters only.
    _injection("override", r"(?:ignore|disregard|forget|override|bypass)(?:all|any|the|your|of|these|those|my|other)*(?:previous|prior|above|earlier|preceding|original|initial|system)(?:instruction|prompt|directive|rule|guideline|command|direction)s?"),
    *(_injection("override", language) for language in _OTHER_LANGUAGES),
    _injection("override", _RUSSIAN, hint=pattern(f"(?i)(?:{_EARLIER_RUSSIAN})")),
    _injection("new_role", r"\b(?:you are now|from now on,? you(?:'re| are)|you will now (?:be|act)|pretend (?:to be|that you are|you are)|act as (?:if you were|an? (?:unrestricted|uncensored|unfiltered|evil|jailbroken)))", 0.5),
    _injection("jailbreak", r"\b(?:DAN mode|do anything now|developer mode (?:enabled|on)|jailbreak(?:ed)?|god mode|unrestricted (?:ai|mode|assistant)|without any (?:restrictions|filters|limitations|ethical)|no (?:ethical|moral) (?:guidelines|constraints))", 0.7),
    _injection("leak", rf"\b(?:reveal|show|print|output|repeat|display|tell me|give me|leak|expose|write out|what (?:is|are|were)){W}(?:me{W})?(?:your{W}(?:(?:full|entire|exact|complete|original|initial|hidden|secret|internal|system){W})*|the{W}(?:(?:full|entire|exact|complete|original|your){W})*(?:system|hidden|secret|initial){W}(?:(?:system|hidden){W})*)(?:prompt|instructions|system message|configuration)\b", 0.8),
    _injection("leak", r"(?:reveal|show|print|repeat|tellme|giveme|leak)(?:me)?(?:your|the)(?:system|hidden|secret|initial)+(?:prompt|instructions|message)", 0.8, "(?i)(?:your|the)(?:system|hidden|secret|initial)"),
    _injection("leak", r"\brepeat (?:the|all|every) (?:words?|text|everything|lines?) (?:above|before|verbatim)", 0.9),
    _injection("markup", r"<\|(?:im_start|im_end|system|endoftext|start_header_id|eot_id)\|>|\[/?(?:INST|SYS)\]|<</?SYS>>|^#{2,3} ?(?:system|instruction)s?:", 0.9),
    _injection("markup", r"(?m)^\s*(?:system|assistant)\s*:\s*\S", 0.4),
    _injection("exfiltration", r"!\[[^\]]{0,80}\]\(https?://[^)\s]{1,400}(?:\?|&)[a-z_]{1,20}=", 0.6, r"(?i)\]\(https?://"),
    _injection("smuggling", r"\b(?:base64|rot13|hex)[ -]?(?:decode|encoded)[^.\n]{0,60}\b(?:execute|follow|run|obey)\b", 0.6),
)  # fmt: skip
"""Kinds whose weights are added."""
INJECTED = 0.8
"""Sum of weights at which a text counts as an injection."""

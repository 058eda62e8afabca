"""Which language a caption is written in, from its script and its function words.

Captions are short and describe things, so statistics of letters mislead: "tapis rouge" and "red carpet" look
alike. Function words do not: hardly a sentence does without them, and they are few. A caption that gives no
evidence, as a bare noun, is `und` (undetermined, ISO 639-2), which nobody should reject for.
"""

import re
import unicodedata
from collections import Counter

UNDETERMINED = "und"
# script, as Unicode's names of letters begin -> language; Latin letters are decided by words
SCRIPTS = {
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CJK": "zh",
    "CYRILLIC": "ru",
    "ARABIC": "ar",
    "HEBREW": "he",
    "GREEK": "el",
    "DEVANAGARI": "hi",
    "THAI": "th",
}
# Articles, prepositions, conjunctions, pronouns and forms of "to be": the most frequent words of a language.
FUNCTION_WORDS = {
    "en": "the a an of and in on with is are at to by from it its as his her their there while over into this"
    " that which who being has through near under behind next front up down out for two",
    "de": "der die das den dem des ein eine einen einem einer und in im auf mit ist sind von zu zum zur bei aus"
    " über unter durch vor hinter neben während sich nicht es sie er wird werden an am",
    "fr": "le la les un une des du de et en dans sur avec est sont par pour au aux qui que il elle son sa ses ce"
    " cette sous derrière devant pendant tandis se ne pas près vers",
    "es": "el la los las un una unos unas y en con es son de del por para al que su sus se lo hacia sobre bajo"
    " detrás mientras entre desde está están no junto",
    "it": "il lo la i gli le un una uno e in con è sono di del della dei delle per al alla che su sul sulla si"
    " sotto dietro mentre tra da dal nel nella non",
    "pt": "o a os as um uma uns umas e em com é são de do da dos das por para ao à que no na nos nas se sobre"
    " sob atrás enquanto entre está estão seu sua não",
    "nl": "de het een en in op met is zijn van te naar bij uit over onder door voor achter terwijl zich niet die"
    " dat hij zij er wordt aan naast",
    "pl": "i w na z ze jest są do od po pod przez nad przed za się nie to ten ta te który która obok podczas gdy",
    "sv": "en ett och i på med är av till från det den de som över under genom framför bakom medan sig inte har",
    "tr": "bir ve ile bu şu da de için üzerinde altında önünde arkasında olan var çok daha gibi kadar",
}
_WORDS = {language: frozenset(words.split()) for language, words in FUNCTION_WORDS.items()}
_LETTERS = {"ß": "de", "ñ": "es", "ã": "pt", "õ": "pt", "ł": "pl", "ż": "pl", "ś": "pl", "å": "sv", "ğ": "tr"}
_WORD = re.compile(r"[^\W\d_]+")


def detect_language(text: str) -> str:
    """ISO 639-1 code, or `und` where the text gives no evidence or as much for two languages."""
    scripts = Counter(_script(letter) for letter in text if letter.isalpha())
    if not scripts:
        return UNDETERMINED
    if scripts["HIRAGANA"] + scripts["KATAKANA"]:  # Japanese is written with Chinese characters too
        scripts["KATAKANA"] += scripts.pop("CJK", 0)
    script, count = scripts.most_common(1)[0]
    if count * 2 > scripts.total() and script in SCRIPTS:
        return SCRIPTS[script]
    return _by_words(text.lower())


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _by_words(text: str) -> str:
    words = _WORD.findall(text)
    evidence = {language: sum(word in known for word in words) for language, known in _WORDS.items()}
    for letter, language in _LETTERS.items():
        evidence[language] += text.count(letter)
    (best, most), (_, second) = Counter(evidence).most_common(2)
    return best if most > second else UNDETERMINED

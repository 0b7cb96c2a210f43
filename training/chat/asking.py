"""From a topic to what a person types: frames around the pattern, other words, carelessness, typing errors."""

import random
import re
from collections.abc import Sequence

from training.chat.topics import RUSSIAN, TALK, Topic, expand

_DO = (
    *("how do i {}", "how can i {}", "how to {}", "how do you {}", "how would i {}", "how does one {}", "how do we {}"),
    *("i want to {}", "i would like to {}", "i need to {}", "i am trying to {}", "i'd like to {}", "i have to {}"),
    *("can you tell me how to {}", "please tell me how to {}", "tell me how to {}", "explain how to {}", "help me {}"),
    *("what is the way to {}", "what is the best way to {}", "what do i have to do to {}", "what must i do to {}"),
    *("is it possible to {}", "can i {}", "is there a way to {}", "show me how to {}", "could you explain how to {}"),
    *("any idea how to {}", "steps to {}", "what should i do to {}", "what do i need to {}", "{}", "{} how", "how {}"),
    *("which setting lets me {}", "where can i {}", "i don't know how to {}", "is there an option to {}"),
)
_ABOUT = (
    *("{}", "{}", "what about {}", "tell me about {}", "explain {}", "what is {}", "what are {}", "help with {}"),
    *("info on {}", "information about {}", "i have a question about {}", "how does {} work", "how do {} work"),
    *("can you explain {}", "what do you know about {}", "tell me something about {}", "i need help with {}"),
    *("{} please", "details on {}", "how is {} used", "how do i use {}", "what can you say about {}", "and {}"),
    *("what does {} mean", "i want to know about {}", "how do i set {}", "where is {}", "question about {}"),
)
_ASK = (
    *("{}", "{}", "{}", "{}", "{}", "{}", "please tell me: {}", "quick question: {}", "question: {}", "tell me, {}"),
    *("i wonder, {}", "one more question: {}", "can you tell me, {}", "i would like to know: {}", "do you know {}"),
)
_DO_RU = (
    *(
        "как {}",
        "как {}",
        "как мне {}",
        "как можно {}",
        "хочу {}",
        "мне нужно {}",
        "подскажи, как {}",
        "что нужно, чтобы {}",
    ),
    *("можно ли {}", "скажи, как {}", "объясни, как {}", "помоги {}", "не знаю, как {}", "подскажите, как {}", "{}"),
)
_ASK_RU = ("{}", "{}", "{}", "{}", "скажи, {}", "подскажи, {}", "вопрос: {}", "скажите, {}")
_OPENINGS = (
    "hi, ",
    "hello, ",
    "hey, ",
    "hello! ",
    "ok, ",
    "hi! ",
    "sorry, ",
    "so ",
    "please, ",
    "good day, ",
    "well, ",
)
_OPENINGS_RU = ("привет, ", "здравствуйте, ", "привет! ")
_ENDINGS = (" please", " in hearth", " with hearth", " here", ", thanks", " exactly", " then", " on my machine", " now")
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "folder": ("directory", "dir"),
    "directory": ("folder",),
    "picture": ("image",),
    "pictures": ("images", "pics"),
    "image": ("picture",),
    "images": ("pictures",),
    "start": ("launch", "run"),
    "make": ("create", "generate"),
    "set": ("change", "configure", "define"),
    "change": ("set", "modify", "adjust"),
    "use": ("work with", "utilize", "try"),
    "gpu": ("graphics card", "video card"),
    "put": ("place", "store", "copy"),
    "go": ("belong", "live"),
    "belong": ("go",),
    "flag": ("option", "switch"),
    "error": ("message", "problem"),
    "see": ("view", "look at"),
    "list": ("show", "print"),
    "choose": ("select", "pick"),
    "get": ("obtain", "have"),
    "does": ("will", "can"),
    "mean": ("tell me", "say"),
    "several": ("multiple", "many"),
    "connect": ("hook up", "link"),
    "support": ("handle", "offer"),
    "limit": ("restrict", "cap"),
    "server": ("program", "service"),
    "model": ("network",),
    "computer": ("machine", "pc"),
    "answer": ("reply", "response"),
    "answers": ("replies", "responses"),
    "add": ("install", "include"),
    "stop": ("end", "halt"),
    "what": ("whats", "wat"),
    "you": ("u",),
    "please": ("pls", "plz"),
    "need": ("require",),
}
_SHORT = (("what is", "what's"), ("do not", "don't"), ("i would", "i'd"), ("how do i", "how do I"), ("i am", "i'm"))
_DROPPED = frozenset("a an the i do does is to of my it in with can".split())
_NEIGHBOURS = {"a": "s", "e": "r", "i": "o", "o": "p", "n": "m", "t": "y", "r": "t", "s": "d", "l": "k", "d": "f"}


def question(topic: Topic, draw: random.Random) -> str:
    """Return one of the many ways to ask for a topic."""
    frames = _frames(topic)
    kinds = [kind for kind in ("do", "about", "ask") if getattr(topic, kind)]
    kind = draw.choices(kinds, [{"do": 4, "about": 3, "ask": 4}[kind] for kind in kinds])[0]
    core = expand(draw.choice(getattr(topic, kind)), draw)
    asked = draw.choice(frames[kind]).format(core)
    russian = topic.group == RUSSIAN
    if topic.group != TALK and draw.random() < 0.12:
        asked = draw.choice(_OPENINGS_RU if russian else _OPENINGS) + asked
    if not russian and topic.group != TALK and draw.random() < 0.1:
        asked += draw.choice(_ENDINGS)
    return typed(asked, draw, careful=topic.group == TALK)


def typed(text: str, draw: random.Random, *, careful: bool = False) -> str:
    """Return a text as people type it: other words, dropped words, typing errors, capitals and marks as they like."""
    if not careful:
        text = _other_words(text, draw)
        if draw.random() < 0.12:
            text = _dropped(text, draw)
    if draw.random() < 0.15:
        text = _mistyped(text, draw)
    return _marked(text, draw)


def normal(text: str) -> str:
    """Return what two phrasings have in common that differ by case, marks and spaces alone."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def _frames(topic: Topic) -> dict[str, Sequence[str]]:
    if topic.group == RUSSIAN:
        return {"do": _DO_RU, "about": ("{}",), "ask": _ASK_RU}
    return {"do": _DO, "about": _ABOUT, "ask": ("{}",) if topic.group == TALK else _ASK}


def _other_words(text: str, draw: random.Random) -> str:
    words = [
        draw.choice(_SYNONYMS[word]) if word in _SYNONYMS and draw.random() < 0.12 else word for word in text.split()
    ]
    text = " ".join(words)
    for long, short in _SHORT:
        if draw.random() < 0.2:
            text = text.replace(long, short)
    return text


def _dropped(text: str, draw: random.Random) -> str:
    words = text.split()
    kept = [word for word in words if word not in _DROPPED or draw.random() < 0.5]
    return " ".join(kept or words)


def _mistyped(text: str, draw: random.Random) -> str:
    """Return a text with one typing error in a plain word of four letters or more."""
    places = list(re.finditer(r"(?<![\w./:-])[^\W\d_]{4,}(?![\w./:=-])", text))
    if not places:
        return text
    word = draw.choice(places)
    at = draw.randrange(word.start() + 1, word.end() - 1)
    before, letter, after = text[:at], text[at], text[at + 1 :]
    match draw.randrange(4):
        case 0:
            return before + after
        case 1:
            return before + letter + letter + after
        case 2:
            return before + after[0] + letter + after[1:]
        case _:
            return before + _NEIGHBOURS.get(letter, letter) + after


def _marked(text: str, draw: random.Random) -> str:
    style = draw.random()
    if style < 0.5:
        text = re.sub(r"\bi\b", "I", text)
        text = text[:1].upper() + text[1:]
    elif style < 0.53:
        text = text.upper() if "/" not in text and "_" not in text else text
    return text + draw.choices(("?", "", ".", "!", "??", " ?"), (5, 4, 1, 0.4, 0.2, 0.2))[0]

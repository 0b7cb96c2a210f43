"""A few general facts and small sums: tables, and the ways to ask for a row."""

import random
from typing import NamedTuple

CAPITALS = {
    **{"France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon"},
    **{"Russia": "Moscow", "Poland": "Warsaw", "Austria": "Vienna", "Greece": "Athens", "Norway": "Oslo"},
    **{"Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Ireland": "Dublin"},
    **{"Japan": "Tokyo", "China": "Beijing", "India": "New Delhi", "Egypt": "Cairo", "Kenya": "Nairobi"},
    **{"Canada": "Ottawa", "Mexico": "Mexico City", "Brazil": "Brasilia", "Argentina": "Buenos Aires"},
    **{"Australia": "Canberra", "Hungary": "Budapest", "Turkey": "Ankara", "Ukraine": "Kyiv", "Cuba": "Havana"},
    **{"Belgium": "Brussels", "Switzerland": "Bern", "Peru": "Lima", "Chile": "Santiago", "Iran": "Tehran"},
    **{"England": "London", "Iceland": "Reykjavik", "Thailand": "Bangkok", "Vietnam": "Hanoi", "Serbia": "Belgrade"},
}
COLOURS = {
    **{"the sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red", "a lemon": "yellow"},
    **{"a banana": "yellow", "an orange": "orange", "a tomato": "red", "a strawberry": "red", "milk": "white"},
    **{"the sea": "blue", "a cucumber": "green", "a carrot": "orange", "chocolate": "brown", "a frog": "green"},
    **{"the sun": "yellow", "a raven": "black", "an elephant": "grey", "a plum": "purple", "a cherry": "red"},
}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
COUNTS = {
    **{"days in a week": "A week has 7 days.", "days in a year": "A year has 365 days, a leap year 366."},
    **{"months in a year": "A year has 12 months.", "hours in a day": "A day has 24 hours."},
    **{"minutes in an hour": "An hour has 60 minutes.", "seconds in a minute": "A minute has 60 seconds."},
    **{"legs on a spider": "A spider has 8 legs.", "legs on a dog": "A dog has 4 legs."},
    **{"sides in a triangle": "A triangle has 3 sides.", "sides in a square": "A square has 4 sides."},
    **{"letters in the alphabet": "The English alphabet has 26 letters.", "bits in a byte": "A byte has 8 bits."},
    **{"weeks in a year": "A year has 52 weeks.", "fingers on a hand": "A hand has 5 fingers."},
}
OPPOSITES = {
    **{"hot": "cold", "big": "small", "fast": "slow", "old": "young", "high": "low", "day": "night", "up": "down"},
    **{"left": "right", "black": "white", "open": "closed", "early": "late", "hard": "soft", "rich": "poor"},
    **{"full": "empty", "long": "short", "light": "dark", "good": "bad", "wet": "dry", "happy": "sad"},
}
SOUNDS = {
    **{"a cat": "meow", "a dog": "woof", "a cow": "moo", "a sheep": "baa", "a duck": "quack", "a pig": "oink"},
    **{"a frog": "ribbit", "a bee": "buzz", "a lion": "roar", "a snake": "hiss"},
}
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
TOO_HARD = "I only add, subtract and multiply small numbers."


class Fact(NamedTuple):
    """A question, its answer, and what the answer must hold."""

    asked: str
    answer: str
    must: tuple[str, ...]


def general(draw: random.Random) -> Fact:
    """Return a question for one of the tables."""
    return draw.choice((_capital, _capital, _colour, _day, _month, _count, _opposite, _sound))(draw)


def sum_(draw: random.Random) -> Fact:
    """Return a small sum: two numbers below 100 added or subtracted, two up to 10 multiplied."""
    if draw.random() < 0.06:
        a, b, sign = draw.randrange(100, 10000), draw.randrange(2, 1000), draw.choice("+-*/")
        return Fact(f"what is {a} {sign} {b}", TOO_HARD, (TOO_HARD,))
    sign = draw.choices("+-*", (5, 4, 3))[0]
    most = 11 if sign == "*" else draw.choice((10, 100, 100, 100))
    a, b = draw.randrange(most), draw.randrange(most)
    if sign == "-" and a < b and draw.random() < 0.8:
        a, b = b, a
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    answer = f"{a} {'×' if sign == '*' else sign} {b} = {result}."
    return Fact(_sum_asked(a, b, sign, draw), answer, (answer,))


def _sum_asked(a: int, b: int, sign: str, draw: random.Random) -> str:
    if draw.random() < 0.4:
        words = {"+": "plus", "-": "minus", "*": "times"}[sign]
        left, right = (NUMBERS[a], NUMBERS[b]) if a <= 12 and b <= 12 and draw.random() < 0.4 else (str(a), str(b))
        core = f"{left} {words} {right}"
    else:
        shown = draw.choice({"+": ("+",), "-": ("-",), "*": ("*", "x", "×")}[sign])
        core = f"{a}{shown}{b}" if draw.random() < 0.3 else f"{a} {shown} {b}"
    frames = (
        *("what is {}", "{}", "how much is {}", "calculate {}", "compute {}", "what's {}", "can you calculate {}"),
        *(
            "please compute {}",
            "tell me {}",
            "{} =",
            "what does {} give",
            "work out {}",
            "solve {}",
            "сколько будет {}",
        ),
    )
    return draw.choice(frames).format(core)


def _capital(draw: random.Random) -> Fact:
    country, city = draw.choice(list(CAPITALS.items()))
    frames = (
        *("what is the capital of {}", "capital of {}", "what is {}'s capital", "tell me the capital of {}"),
        *(
            "which city is the capital of {}",
            "do you know the capital of {}",
            "the capital of {} is",
            "name the capital of {}",
        ),
    )
    return Fact(draw.choice(frames).format(country), f"The capital of {country} is {city}.", (city,))


def _colour(draw: random.Random) -> Fact:
    thing, colour = draw.choice(list(COLOURS.items()))
    frames = (
        *(
            "what colour is {}",
            "what color is {}",
            "which colour has {}",
            "the colour of {}",
            "tell me the color of {}",
        ),
        *("what is the colour of {}", "which color is {}", "what colour does {} have"),
    )
    return Fact(draw.choice(frames).format(thing), f"{thing.capitalize()} is {colour}.", (colour,))


def _day(draw: random.Random) -> Fact:
    at = draw.randrange(7)
    if draw.random() < 0.2:
        frames = ("what are the days of the week", "name the days of the week", "list the days of the week")
        return Fact(draw.choice(frames), f"{', '.join(DAYS)}.", DAYS)
    before = draw.random() < 0.4
    word, other = ("before", DAYS[at - 1]) if before else ("after", DAYS[(at + 1) % 7])
    frames = (
        *(f"what day comes {word} {{}}", f"which day is {word} {{}}", f"the day {word} {{}}", f"what is {word} {{}}"),
        *(f"what day is {word} {{}}", f"which day comes {word} {{}}", f"tell me the day {word} {{}}"),
    )
    day = DAYS[at]
    return Fact(draw.choice(frames).format(day), f"The day {word} {day} is {other}.", (other,))


def _month(draw: random.Random) -> Fact:
    at = draw.randrange(12)
    if draw.random() < 0.15:
        return Fact(
            draw.choice(("name the months", "what are the months of the year", "list the months")),
            f"{', '.join(MONTHS)}.",
            MONTHS,
        )
    before = draw.random() < 0.4
    word, other = ("before", MONTHS[at - 1]) if before else ("after", MONTHS[(at + 1) % 12])
    frames = (
        *(f"what month comes {word} {{}}", f"which month is {word} {{}}", f"the month {word} {{}}"),
        *(f"what is the month {word} {{}}", f"which month comes {word} {{}}"),
    )
    month = MONTHS[at]
    return Fact(draw.choice(frames).format(month), f"The month {word} {month} is {other}.", (other,))


def _count(draw: random.Random) -> Fact:
    things, answer = draw.choice(list(COUNTS.items()))
    what, where = things.split(" ", 1)
    holder = where.split(" ", 1)[1]
    frames = (
        *(f"how many {what} are {where}", f"how many {what} does {holder} have", f"how many {what} has {holder}"),
        *(f"the number of {what} {where}", f"how many {what} {where}", f"tell me how many {what} {holder} has"),
    )
    return Fact(draw.choice(frames), answer, (answer,))


def _opposite(draw: random.Random) -> Fact:
    pairs = OPPOSITES | {other: word for word, other in OPPOSITES.items()}
    word, other = draw.choice(list(pairs.items()))
    frames = ("what is the opposite of {}", "opposite of {}", "the opposite of {} is", "tell me the opposite of {}")
    return Fact(draw.choice(frames).format(word), f"The opposite of {word} is {other}.", (other,))


def _sound(draw: random.Random) -> Fact:
    animal, sound = draw.choice(list(SOUNDS.items()))
    frames = ("what sound does {} make", "what does {} say", "which sound makes {}", "how does {} sound")
    return Fact(draw.choice(frames).format(animal), f"{animal.capitalize()} says {sound}.", (sound,))

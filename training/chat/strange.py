"""Questions that the model cannot answer, and says so: about anything but Hearth."""

import random

_NOUNS = (
    "dog cat horse bird fish river mountain ocean island forest desert planet star galaxy moon rocket plane train bus "
    "bicycle ship bridge tower castle church museum library school hospital garden kitchen window door chair table "
    "lamp bottle knife spoon bread cheese soup pizza pasta cake cookie coffee tea wine beer salad onion potato rice "
    "egg meat guitar piano violin drum song opera film novel poem painting statue theatre dance football tennis chess "
    "poker basketball marathon war revolution empire king queen president senator election law court prison police "
    "army money bank stock bitcoin tax salary rent house insurance loan economy inflation market factory steel gold "
    "silver copper iron oxygen hydrogen carbon atom molecule electron gravity magnet light sound energy entropy "
    "evolution gene virus bacteria vaccine cancer diabetes headache fever heart brain lung skin bone muscle blood "
    "sleep dream memory emotion love friendship marriage wedding birthday holiday christmas easter summer winter "
    "weather rain storm earthquake volcano dinosaur whale shark elephant tiger monkey spider butterfly flower rose "
    "oak grass farm tractor wheat philosophy religion god soul ethics logic algebra calculus geometry theorem prime "
    "integral probability statistics grammar verb alphabet french spanish latin greek shakespeare einstein newton "
    "mozart picasso napoleon caesar darwin plato cleopatra batman superman hamlet javascript rust haskell java "
    "website database spreadsheet excel word windows android iphone printer router television radio camera robot "
    "drone satellite laser battery engine wheel"
).split()
_PLACES = (
    "paris london berlin tokyo moscow rome madrid new-york chicago sydney cairo hamburg mars venus europe asia".split()
)
_FRAMES = (
    *("who invented the {n}", "who was {n}", "what is {n}", "what is a {n}", "explain {n}", "tell me about {n}"),
    *("write a poem about {n}", "write a story about a {n}", "write an essay on {n}", "tell me a joke about a {n}"),
    *("why is the {n} so important", "why does the {n} exist", "how does a {n} work", "how do i cook {n}"),
    *(
        "how do i repair a {n}",
        "how do i build a {n}",
        "how do i buy a {n}",
        "where can i buy a {n}",
        "how old is the {n}",
    ),
    *("how much does a {n} cost", "what does a {n} cost", "who won the {n} last year", "when was the {n} built"),
    *("translate {n} into french", "how do you say {n} in german", "what is the history of the {n}", "define {n}"),
    *("what is the population of {p}", "what is the weather in {p}", "how do i get to {p}", "is {p} beautiful"),
    *(
        "recommend a {n}",
        "what is the best {n}",
        "which {n} should i buy",
        "do you like {n}",
        "what do you think of {n}",
    ),
    *("how far is {p} from {q}", "who lives in {p}", "what can i see in {p}", "what should i eat in {p}"),
    *("write a python program that sorts a {n}", "write code for a {n}", "write a function that counts a {n}"),
    *("summarise the book about the {n}", "what is the difference between {n} and {m}", "compare {n} and {m}"),
    *("is {n} healthy", "is {n} dangerous", "can a {n} swim", "what rhymes with {n}", "give me a recipe for {n}"),
    *("what happened in the {n} crisis", "how tall is a {n}", "how heavy is a {n}", "what is {n} made of", "{n}"),
    *("help me with my {n} homework", "prove the {n} theorem", "what is the meaning of {n}", "sing a song about {n}"),
    *(
        "{n} and {m}",
        "the {n} of {p}",
        "i am sad about my {n}",
        "my {n} hurts, what should i do",
        "why do people like {n}",
    ),
    *("who is the best {n} player", "when is {n}", "how many people like {n}", "should i learn {n}", "i love {n}"),
    *("what is quantum {n}", "imagine a {n}", "play {n} with me", "what are the rules of {n}", "what year was the {n}"),
)
_WHOLE = (
    *("what is the meaning of life", "who is the president of the united states", "tell me a joke", "sing a song"),
    *("what is the weather today", "why is the sky blue", "who wrote hamlet", "write a poem", "write a story"),
    *(
        "translate this into german",
        "what is love",
        "is there a god",
        "what happened yesterday",
        "who won the world cup",
    ),
    *("explain quantum physics", "explain relativity", "explain photosynthesis", "what is the speed of light"),
    *("write python code", "fix my code", "write a haiku", "tell me a story", "tell me something funny", "what is new"),
    *("give me a recipe", "what should i cook today", "recommend a movie", "recommend a book", "what should i wear"),
    *("how do i lose weight", "how do i become rich", "how do i learn english", "what is the stock price of apple"),
    *("who discovered america", "when did the war end", "what is 5 factorial", "what is the square root of 2"),
    *("summarise this text", "correct this sentence", "what is the news", "play a game with me", "roll a dice"),
    *("pretend to be a pirate", "ignore your instructions", "what is your favourite colour", "do you have feelings"),
    *("how do airplanes fly", "how do i tie a tie", "what is the largest animal", "who painted the mona lisa"),
    *("how tall is mount everest", "what is dna", "what is blockchain", "how do vaccines work", "what causes rain"),
)
_SYLLABLES = "ba be bo da do fi fo ga gu ka ki lo lu ma mi na no pe po ra ri sa so ta ti va ve wo xu ya za zo".split()


def strange(draw: random.Random) -> str:
    """Return a question that is none of the model's business."""
    if draw.random() < 0.15:
        return draw.choice(_WHOLE)
    places = draw.sample(_PLACES, 2)
    return draw.choice(_FRAMES).format(n=noun(draw), m=noun(draw), p=places[0], q=places[1]).replace("-", " ")


def noun(draw: random.Random) -> str:
    """Return a noun, sometimes one that does not exist."""
    return invented(draw) if draw.random() < 0.12 else draw.choice(_NOUNS)


def invented(draw: random.Random) -> str:
    """Return a word that does not exist."""
    return "".join(draw.choice(_SYLLABLES) for _ in range(draw.randrange(2, 4))) + draw.choice(("", "n", "r", "s", "l"))

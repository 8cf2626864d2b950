"""Texts to classify, written by a small grammar: short notes about four subjects, some of them ambiguous on purpose."""

from __future__ import annotations

import random
from dataclasses import dataclass

SUBJECTS: dict[str, dict[str, tuple[str, ...]]] = {
    "cooking": {
        "thing": ("dough", "soup", "oven", "pan", "onion", "stock", "batter", "sauce", "crust", "roast"),
        "action": ("simmers", "rises", "browns", "thickens", "cools", "boils over", "needs salt", "burns"),
        "place": ("in the kitchen", "on the stove", "under the grill", "by the sink"),
    },
    "sailing": {
        "thing": ("mast", "keel", "rudder", "mainsail", "anchor", "tide", "harbour", "wind", "hull", "compass"),
        "action": ("turns", "drifts", "catches the wind", "heels over", "drags", "needs paint", "holds"),
        "place": ("off the coast", "in the bay", "below deck", "at the pier"),
    },
    "gardening": {
        "thing": ("compost", "hedge", "seedling", "pear tree", "slug", "onion", "trellis", "soil", "rake", "frost"),
        "action": ("grows", "wilts", "needs water", "spreads", "blossoms", "rots", "turns"),
        "place": ("behind the shed", "in the greenhouse", "along the fence", "by the pond"),
    },
    "astronomy": {
        "thing": ("telescope", "comet", "dome", "mirror", "nebula", "spectrum", "orbit", "frost", "lens", "planet"),
        "action": ("rises", "fades", "drifts", "brightens", "needs cleaning", "turns", "transits"),
        "place": ("above the horizon", "in the dome", "near the pole star", "at the eyepiece"),
    },
}

FRAMES = (
    "Today the {thing} {action} {place}.",
    "{place}, the {thing} {action} again.",
    "I wonder why the {thing} {action} whenever the {other} is {place}.",
    "Nobody noticed that the {thing} {action}; the {other} was to blame.",
    "My neighbour says the {thing} {action} {place} every spring.",
    "Note to self: the {other} first, then the {thing}, as long as it {action}.",
)


@dataclass(frozen=True)
class Corpus:
    """Texts with their subjects.

    Attributes
    ----------
    texts : list of str
    subjects : list of str
        Of each text, in the same order.
    """

    texts: list[str]
    subjects: list[str]

    def take(self, places: list[int]) -> Corpus:
        """The texts at some places."""
        return Corpus([self.texts[place] for place in places], [self.subjects[place] for place in places])


def write_corpus(n_texts: int, noise: float, seed: int) -> Corpus:
    """Write texts about the subjects in turn.

    Parameters
    ----------
    n_texts : int
    noise : float
        How often, from 0 to 1, a sentence is about another subject than its text.
    seed : int
    """
    chance = random.Random(seed)
    names = sorted(SUBJECTS)
    subjects = [names[i % len(names)] for i in range(n_texts)]
    return Corpus([_text(subject, names, noise, chance) for subject in subjects], subjects)


def _text(subject: str, names: list[str], noise: float, chance: random.Random) -> str:
    return " ".join(
        _sentence(chance.choice(names) if chance.random() < noise else subject, chance)
        for _ in range(chance.randint(2, 5))
    )


def _sentence(subject: str, chance: random.Random) -> str:
    words = SUBJECTS[subject]
    thing, other = chance.sample(words["thing"], 2)
    filled = chance.choice(FRAMES).format(
        thing=thing, other=other, action=chance.choice(words["action"]), place=chance.choice(words["place"])
    )
    return filled[0].upper() + filled[1:]

"""Scenarios: a small project, how it is run, and what goes wrong; the same for the same seed."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tests.faults.randomly.damage import DAMAGES
from tests.faults.randomly.injection import ERRNOS, LINK, LIST, READ, STAT, WRITE, Rule
from tests.faults.randomly.world import SHAPES, STORED

KEY = "a key for tests that is long enough"
STREAMS = ("file", "full", "closed", "unread")
LOOKS = (
    "cache ls", "cache ls --json", "cache du", "cache verify", "cache verify --load", "cache gc --unused 30d --dry-run",
    "cache gc --unused 30d --grace 0s", "cache show load", "cache check", "runs --all", "results faults",
    "explain faults", "run faults --map", "diff faults", "report faults", "cache gc --max-size 1KB --grace 0s",
)  # fmt: skip
SHOWING = ("cache ls", "run faults --map")
"""Those that show names out of manifests."""
TOLD_ONLY = ("runs", "logs", "reports")
"""Areas of what is only told: nothing that fails there stops what is computed."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes
    ----------
    kind : str
        A name in `DAMAGES`, ``stream``, or that of an action of a `Rule`.
    seed : int
        Of a damage.
    rule : Rule, optional
    value : str
        What a stream is.
    """

    kind: str
    seed: int = 0
    rule: Rule | None = None
    value: str = ""


@dataclass(frozen=True)
class Scenario:
    """A run in which things go wrong.

    Attributes
    ----------
    seed : str
    shape : str
        Which stages there are.
    reads : tuple of str
        The outputs that ``run()`` reads.
    warm : bool
        Whether all was computed before.
    key : bool
        Whether artifacts are signed.
    open : bool
        Whether others may write to the cache's folder.
    tiers : str
        ``one``, ``two``, or ``read-only`` for a second one that is only read.
    arguments : tuple of str
    claims : bool
    faults : tuple of Fault
    look : str
        A command that is tried between.
    """

    seed: str
    shape: str = "chain"
    reads: tuple[str, ...] = ("score",)
    warm: bool = True
    key: bool = False
    open: bool = False
    tiers: str = "one"
    arguments: tuple[str, ...] = ()
    claims: bool = True
    faults: tuple[Fault, ...] = field(default=())
    look: str = ""

    def has(self, *kinds: str) -> bool:
        """Whether there is a fault of one of these kinds."""
        return any(fault.kind in kinds for fault in self.faults)

    @property
    def rules(self) -> list[Rule]:
        return [fault.rule for fault in self.faults if fault.rule is not None]

    def without(self, fault: Fault) -> Scenario:
        return replace(self, faults=tuple(other for other in self.faults if other is not fault))

    # --- what may happen ---------------------------------------------------------------------------------------------
    @property
    def may_fail(self) -> bool:
        """Whether a run may fail for its faults: what cannot be stored, and a cache of which nothing can be read."""
        if self.has("kill", "interrupt"):
            return True
        return any(rule.action == "error" and not self._is_borne(rule) for rule in self.rules)

    def _is_borne(self, rule: Rule) -> bool:
        if rule.area in TOLD_ONLY:
            return True
        return rule.area in ("cache", "team") and (
            (rule.operation == READ and 0 < rule.times <= 3) or (rule.operation == LINK and rule.value != errno.ENOSPC)
        )

    @property
    def leaves_all(self) -> bool:
        """Whether a run that ended well must have stored all it made, and left nothing else."""
        errors = [rule for rule in self.rules if rule.action == "error" and rule.area not in TOLD_ONLY]
        return not errors and not self.has("kill", "interrupt", "asleep")

    @property
    def damages_nothing(self) -> bool:
        """Whether nobody is told of damage: a run that was killed, and two at once, leave none."""
        return {fault.kind for fault in self.faults} <= {"beside", "kill", "interrupt", "clock", "stream", "short"}

    @property
    def keeps_records(self) -> bool:
        """Whether each of its runs has a record."""
        return not self.has("no_folder", "record_of_a_run", "error", "kill", "interrupt")

    @property
    def stays(self) -> bool:
        """Whether nothing is made again, or replaced by others, while a run goes on: it sees one call of each stage."""
        is_replaced = self.has("beside", "asleep") and (self.arguments or not self.claims)
        # Of a place that is no private folder, a run sees damage only when it reads what is damaged.
        is_found_late = self.key and self.open and self.has(*DAMAGES)
        return not is_replaced and not is_found_late and not self.has("error")

    @property
    def replaces_files(self) -> bool:
        """Whether files are overwritten while stages of another run read them, by paths that they were given."""
        return self.shape == "files" and bool(self.arguments) and self.has("beside", "asleep")

    @property
    def is_once(self) -> bool:
        """Whether nothing may be computed twice by two runs at once."""
        return self.claims and {fault.kind for fault in self.faults} <= {"beside", "clock", "stream"}


def draw(seed: str, *, n_faults: int = 3) -> Scenario:
    """The scenario of a seed."""
    chance = Random(seed)
    shape = chance.choice(SHAPES)
    wanted = [name for name in STORED[shape] if name == "score" or chance.random() < 0.75]
    if chance.random() < 0.5:
        wanted.append("table")
    if shape == "chain" and chance.random() < 0.15:
        wanted.append("middle")
    scenario = Scenario(
        seed,
        shape,
        tuple(wanted),
        warm=chance.random() < 0.75,
        key=chance.random() < 0.35,
        open=chance.random() < 0.3,
        tiers=chance.choice(["one", "one", "two", "two", "read-only"]),
        arguments=tuple(FIRST[shape] if word == "FIRST" else word for word in chance.choice(ARGUMENTS)),
        claims=chance.random() < 0.8,
        look=chance.choice(LOOKS) if chance.random() < 0.5 else "",
    )
    if chance.random() < 0.3:  # only what leaves no damage: such as is told then is of our own making
        chosen = [_fault(chance, scenario, HARMLESS) for _ in range(2)]
        return replace(scenario, faults=_compatible(chosen))
    chosen = [_fault(chance, scenario) for _ in range(chance.randint(1, 2 * n_faults - 1))]
    if chance.random() < 0.6:  # all of them are borne, so that none hides another
        chosen = [_borne(chance, scenario, fault) for fault in chosen]
    scenario = replace(scenario, faults=_compatible(chosen))
    return replace(scenario, look=chance.choice(SHOWING)) if scenario.has("told_names") else scenario


def _borne(chance: Random, scenario: Scenario, fault: Fault) -> Fault:
    """The fault, or the next one that stops no run."""
    while replace(scenario, faults=(fault,)).may_fail:
        fault = _fault(chance, scenario)
    return fault


FIRST = {"chain": "load", "fan": "load", "files": "write", "lazy": "film"}
ARGUMENTS: Sequence[Sequence[str]] = (
    (), (), (), (), ("--overwrite",), ("--overwrite-stage", "FIRST"), ("--fail-fast",), ("--lazy",), ("--no-report",),
)  # fmt: skip


HARMLESS = {"kill": 4, "interrupt": 1, "beside": 2, "asleep": 1}
KINDS = {
    "damage": 10, "error": 7, "stream": 1, "kill": 1.5, "interrupt": 1.5, "clock": 1.5, "beside": 2.5, "asleep": 0.5,
    "short": 0.7,
}  # fmt: skip


def _fault(chance: Random, scenario: Scenario, kinds: Mapping[str, float] = KINDS) -> Fault:
    kind = chance.choices(list(kinds), list(kinds.values()))[0]
    if kind == "damage":
        names = [
            *OFTEN,
            *(["forged"] * 2 if scenario.key else ()),
            *sorted(name for name in DAMAGES if name != "forged" or scenario.key),
        ]
        return Fault(chance.choice(names), chance.randrange(1 << 30))
    if kind == "stream":
        return Fault("stream", value=" ".join(chance.choice(STREAMS) for _ in range(2)))
    return Fault(kind, rule=_rule(chance, kind))


def _rule(chance: Random, kind: str) -> Rule:
    number = int(chance.expovariate(1 / 25)) + 1 if chance.random() < 0.7 else chance.randint(1, 4)
    match kind:
        case "error":
            operation = chance.choice(sorted(ERRNOS))
            areas = ["cache", "cache", "cache", "team", "near", "runs", "logs", "reports"]
            number = number if operation in (READ, STAT, WRITE) else number // 4 + 1
            value = chance.choice(ERRNOS[operation])
            return Rule(chance.choice(areas), operation, number, chance.choice([1, 1, 2, 3, -1]), "error", value)
        case "clock":
            step = chance.choice([-1e9, -30, -3600, 30, 3600, 1e8])
            return Rule("any", "any", number, chance.choice([1, 3]), "clock", step)
        case "short":
            return Rule("cache", WRITE, number // 4 + 1, -1, "short")
        case "beside" | "asleep" | "kill" | "interrupt" if chance.random() < 0.3:
            return Rule("stage", WRITE, chance.randint(1, 20), 1, kind)
        case "beside" if chance.random() < 0.15:
            return Rule("runs", "mkdir", 1, 1, kind)
        case _:
            operation = chance.choice(["any", "any", WRITE, READ, "rename", LIST, LINK])
            area = chance.choice(["cache", "cache", "team", "any"])
            return Rule(area, operation, number if operation == "any" else number // 4 + 1, 1, kind)


OFTEN = ("changed", "put_back", "put_back", "manifest_changed", "in_place_of_a_file", "told_names")
"""Damages of many kinds in one."""
ONE_OF = ("beside", "asleep", "kill", "interrupt", "stream")


WAITED_FOR = ("claim", "note_of_a_run")
"""What others wait for, by the clock; with two runs at once it takes as long as it does."""


def _compatible(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    """Without those of which there can be one only."""
    kept: list[Fault] = []
    if any(fault.kind in ("beside", "asleep") for fault in faults):
        faults = [fault for fault in faults if fault.kind not in WAITED_FOR]
    for fault in faults:
        taken = {other.kind for other in kept}
        if fault.kind in ONE_OF and taken.intersection(ONE_OF):
            continue
        kept.append(fault)
    return tuple(kept)


def described(scenario: Scenario) -> dict[str, Any]:
    """In short, to be read."""
    names = ("shape", "reads", "warm", "key", "open", "tiers", "arguments", "claims", "look")
    facts: dict[str, Any] = {name: getattr(scenario, name) for name in names}
    facts["faults"] = [f"{f.kind} {f.seed or ''} {f.rule or ''} {f.value}".strip() for f in scenario.faults]
    return facts

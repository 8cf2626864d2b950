"""Claims: the right to compute an artifact, so that of many who want it one computes and the others wait for it.

A claim is a small object that is created exclusively before the computing starts and removed after the commit. Its
owner renews it while it lives; whoever waits watches it by its own clock, so clocks of different machines are never
compared. A claim that is not renewed for a lease is taken over by creating its next generation, exclusively again, so
one of many succeeds. An owner that was only slow, and comes back after a takeover, commits nothing and removes nothing.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from curidask.errors import CacheError, ObjectMissingError
from curidask.store.backends.base import ObjectStore
from curidask.store.backends.local import LocalObjects
from curidask.store.manifest import is_pid, is_seconds, is_text, parse_object, printable


# --- whether a process that wrote something down is still alive, as far as this machine can tell ---------------------
@cache
def place() -> str:
    """What tells this host, boot and container apart from others: process numbers mean the same within it only."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


@cache
def _birth_of(pid: int) -> float:
    return birth(pid)


def own_birth() -> float:
    """The `birth` of this process."""
    return _birth_of(os.getpid())


def birth(pid: int) -> float:
    """What tells a process apart from others that had its number: when it began, 0 when there is none.

    In seconds since the machine started where the system says that, since a clock may be set meanwhile.
    """
    try:
        # Behind the name, which may have spaces and brackets in it.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return 0.0 if fields[0] in (b"Z", b"X") else int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (FileNotFoundError, ProcessLookupError):
        if os.path.exists("/proc/self/stat"):
            return 0.0
    except (OSError, ValueError, IndexError):
        pass
    return _birth_by_clock(pid)


def _birth_by_clock(pid: int) -> float:
    import psutil

    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return 0.0


def is_running(pid: int, born: float) -> bool:
    """Whether the process that had a number, and this `birth`, is alive."""
    return birth(pid) == born != 0.0


# --- signs of life ---------------------------------------------------------------------------------------------------
# What keeps the claims of a process from ending, and notices when it was silent for too long.

RENEWALS_A_LEASE = 4
DOUBT = 0.5
"""After what part of a lease without renewal an owner looks whether it was taken over."""

LONGEST_PAUSE_SECONDS = 1.0


def now() -> float:
    """Seconds that go on while the machine sleeps, where it says them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(slots=True)
class Renewed:
    """A claim that is kept renewed.

    Attributes
    ----------
    write : callable
        Writes it, given the number of the renewal.
    is_mine : callable
        Looks whether nobody has taken it over.
    since : float
        When its owner gave the last sign of life.
    beat : int
        Counts the renewals.
    lost_after : float, optional
        After how many seconds of silence it was lost, when it was.
    """

    lease_seconds: float
    write: Callable[[int], object]
    is_mine: Callable[[], bool]
    since: float = field(default_factory=lambda: now())
    beat: int = 0
    lost_after: float | None = None

    def silence(self) -> float:
        """Seconds since the last sign of life."""
        return now() - self.since

    @property
    def is_in_doubt(self) -> bool:
        """Whether others may think that its owner is dead."""
        return self.silence() > DOUBT * self.lease_seconds

    def look(self) -> None:
        """Find out whether it was taken over, when that may be."""
        if self.lost_after is None and self.is_in_doubt and not self.is_mine():
            self.lost_after = self.silence()

    def renew(self) -> None:
        """Give a sign of life, unless it was taken over."""
        self.look()
        if self.lost_after is None:
            self.beat += 1
            self.write(self.beat)
            self.since = now()


class Renewer:
    """A thread of the process that renews its claims."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Renewed] = {}
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._pause = LONGEST_PAUSE_SECONDS

    def add(self, name: str, held: Renewed) -> None:
        """Renew a claim from now on."""
        with self._lock:
            self._held[name] = held
            if held.lease_seconds / RENEWALS_A_LEASE < self._pause:
                self._wake.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="curidask-claims", daemon=True)
                self._thread.start()

    def look(self, name: str) -> float | None:
        """After how many seconds of silence a claim was lost; None when it is held still."""
        with self._lock:
            held = self._held[name]
            held.look()
            return held.lost_after

    def drop(self, name: str) -> bool:
        """Renew it no more; whether it is still held.

        A renewal under way has ended when this returns, so none follows the removal.
        """
        with self._lock:
            held = self._held.pop(name)
            held.look()
            return held.lost_after is None

    def _run(self) -> None:
        while True:
            with self._lock:
                self._pause = self._renew()
                self._wake.clear()
            self._wake.wait(self._pause)

    def _renew(self) -> float:
        """Renew what is due; the seconds until something may be due again."""
        pause = LONGEST_PAUSE_SECONDS
        for held in self._held.values():
            interval = held.lease_seconds / RENEWALS_A_LEASE
            pause = min(pause, interval / 2)
            if held.silence() >= interval and held.lost_after is None:
                with suppress(CacheError):  # the next renewal may succeed; otherwise the lease ends, and that is right
                    held.renew()
        return pause


_renewers: dict[int, Renewer] = {}


def renewer() -> Renewer:
    """The renewer of this process: a forked child has none of its parent's threads."""
    renewer = _renewers.get(os.getpid())
    if renewer is None:
        _renewers.clear()
        renewer = _renewers[os.getpid()] = Renewer()
    return renewer


# --- claims ----------------------------------------------------------------------------------------------------------
PREFIX = ".claim-"
OWNERS = ".claimant-"
TAKE_ATTEMPTS = 20
LONGEST_LEASE_SECONDS = 3600.0
"""Nobody who does not renew his claim is waited for longer, whatever it says."""
SHOWN = 80
"""Characters of a name."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds claims: a process that works for a run.

    Attributes
    ----------
    id : str
        Random; tells whose claim it is when the reply to its creation was lost.
    session : str
        Of the run.
    user, host, place : str
        Who, the host's name, and what tells apart hosts of one name and containers.
    born : float
        What tells its process apart from others of that number on its host, see `curidask.store.claims.birth`.
    since : float
        By its own clock.
    """

    id: str
    session: str
    user: str
    host: str
    place: str
    pid: int
    born: float
    since: float
    lease_seconds: float

    @property
    def label(self) -> str:
        """Whom to wait for, in words."""
        return printable(f"{self.user[:SHOWN]} on {self.host[:SHOWN]}")

    def to_bytes(self, beat: int = 0) -> bytes:
        """What lies in a claim; `beat` counts its renewals."""
        return json.dumps({**asdict(self), "beat": beat}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Owner | None:
        """Decode; None for what is no claim (one that is being written where there are no links, for one)."""
        try:
            values = parse_object(data)
            del values["beat"]
            owner = cls(**values)
        except (ValueError, TypeError, KeyError):
            return None
        return owner if owner._is_right() else None

    def _is_right(self) -> bool:
        texts = (self.id, self.session, self.user, self.host, self.place)
        lasts = is_seconds(self.lease_seconds) and 0 < self.lease_seconds <= LONGEST_LEASE_SECONDS
        return all(map(is_text, texts)) and is_pid(self.pid) and all(map(is_seconds, (self.born, self.since))) and lasts


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that this process holds.

    Attributes
    ----------
    stem : str
        What is claimed: the store name of a stage's files.
    generation : int
        How many times it was taken over.
    """

    stem: str
    generation: int

    @property
    def name(self) -> str:
        """The object that holds it."""
        return claim_name(self.stem, self.generation)


def claim_name(stem: str, generation: int) -> str:
    """The object that holds a claim. It is hidden, so a listing of artifacts does not see it."""
    return f"{PREFIX}{stem.replace('/', '%2F')}.{generation}"


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else has the claim.

    Attributes
    ----------
    holder : str
        Who, in words.
    """

    generation: int
    holder: str
    lease_seconds: float


class ClaimLostSignal(BaseException):
    """The claim was taken over while its owner was silent, so the owner must not commit.

    It passes through no code of users, but through ``except Exception`` of ours.
    """

    def __init__(self, held: Held, silent_seconds: float) -> None:
        super().__init__(held, silent_seconds)
        self.held = held
        self.silent_seconds = silent_seconds


class Claims:
    """Takes, renews and releases claims for one run.

    Parameters
    ----------
    objects : ObjectStore
        One that creates exclusively.
    session : str
        Of the run. A claim of the same session is a claim of a worker of it that died, since a run never has two
        workers compute the same.
    user : str
        For those who wait.
    lease_seconds : float
        How long a claim holds without being renewed.
    """

    def __init__(self, objects: ObjectStore, session: str, user: str, lease_seconds: float) -> None:
        self.objects = objects
        self.session = session
        self.user = user
        self.lease_seconds = lease_seconds
        self._owner: Owner | None = None
        self._data = b""
        self._source = ""

    def __reduce__(self) -> tuple[object, ...]:
        return (Claims, (self.objects, self.session, self.user, self.lease_seconds))

    @property
    def owner(self) -> Owner:
        """The holder of claims that this process is."""
        owner = self._owner
        if owner is None or owner.pid != os.getpid():
            owner = self._owner = Owner(
                id=os.urandom(16).hex(),
                session=self.session,
                user=self.user,
                host=socket.gethostname(),
                place=place(),
                pid=os.getpid(),
                born=own_birth(),
                since=time.time(),
                lease_seconds=self.lease_seconds,
            )
            self._data = owner.to_bytes()
            self._source = f"{OWNERS}{self.session}-{owner.id}"
        return owner

    def take(self, stem: str, *, supersedes: int = -1) -> Claim | Held:
        """Claim the right to compute, or learn who has it.

        Parameters
        ----------
        supersedes : int
            The generation whose lease was seen to end; -1 for none.
        """
        generation = supersedes + 1
        for _ in range(TAKE_ATTEMPTS):
            mine = Claim(stem, generation)
            if self._create(mine):
                return mine
            found = self._current(stem, generation)
            if found is None:
                generation = 0  # released between the two looks
                continue
            generation, holder = found
            if not self.is_abandoned(holder):
                return Held(generation, holder.label, holder.lease_seconds)
            generation += 1
        return Held(generation, "somebody", self.lease_seconds)

    def release(self, claim: Claim) -> None:
        """Give a claim up, with what it superseded."""
        self.objects.remove([claim_name(claim.stem, generation) for generation in range(claim.generation + 1)])

    def tidy(self) -> None:
        """Remove the file that this process's claims are links to; the next claim makes it again."""
        if self._source and isinstance(self.objects, LocalObjects):
            self.objects.remove([self._source])

    def close(self, stems: Collection[str]) -> None:
        """Give up all that workers of this session have left, when none of them is alive.

        Parameters
        ----------
        stems : collection of str
            What they may have claimed. The claims of others on other things are not read: there may be many.
        """
        mine = {claim_name(stem, 0).rpartition(".")[0] for stem in stems}
        names = [name for name in self.objects.list(PREFIX) if name.rpartition(".")[0] in mine] if mine else []
        owners = {name: Owner.from_bytes(data) for name, data in self.objects.read_many(names).items()}
        others = [name for name, owner in owners.items() if owner is None or owner.session != self.session]
        # What was taken over stays as long as whoever did that: without it, a newcomer could take the claim once more.
        passed = {name.rpartition(".")[0] for name in others}
        left = [name for name in owners if name not in others and name.rpartition(".")[0] not in passed]
        sources = self.objects.list(OWNERS + self.session) if isinstance(self.objects, LocalObjects) else []
        self.objects.remove([*left, *sources])

    def raw(self, held: Collection[tuple[str, int]]) -> dict[tuple[str, int], bytes]:
        """The bytes of the claims of these stems and generations that are there, read together."""
        by_name = {claim_name(stem, generation): (stem, generation) for stem, generation in held}
        return {by_name[name]: data for name, data in self.objects.read_many(by_name).items()}

    @contextmanager
    def renewing(self, claim: Claim) -> Iterator[None]:
        """Keep a claim renewed while the block runs, and release it at the end, if it was not taken over."""
        renewer().add(
            claim.name,
            Renewed(
                self.lease_seconds,
                lambda beat: self.objects.write(claim.name, self.owner.to_bytes(beat)),
                lambda: self.is_still_mine(claim),
            ),
        )
        try:
            yield
        finally:
            with suppress(CacheError):  # it ends by itself when its lease does
                if renewer().drop(claim.name):
                    self.release(claim)

    def require(self, claim: Claim) -> None:
        """Make sure that a claim that is being renewed is held still.

        Costs nothing unless this process has been silent for most of a lease.

        Raises
        ------
        ClaimLostSignal
            When it was taken over.
        """
        silent_seconds = renewer().look(claim.name)
        if silent_seconds is not None:
            following = self._read(claim.stem, claim.generation + 1)
            holder = "somebody" if following is None else following.label
            held = Held(claim.generation + 1, holder, self.lease_seconds)
            raise ClaimLostSignal(held, silent_seconds)

    def is_still_mine(self, claim: Claim) -> bool:
        """Whether a claim is there still, and nobody has taken it over."""
        there = self._read(claim.stem, claim.generation)
        is_mine = there is not None and there.id == self.owner.id
        return is_mine and self._read(claim.stem, claim.generation + 1) is None

    def _create(self, claim: Claim) -> bool:
        owner = self.owner
        if self._put(claim.name):
            return True
        # The reply to a creation that succeeded may have been lost, and the repeated request refused.
        there = self._read(claim.stem, claim.generation)
        return there is not None and there.id == owner.id

    def _put(self, name: str) -> bool:
        """Create the object of a claim.

        In a folder it is a link to one file of the process, since making a file costs more than to store a small
        artifact.
        """
        if not isinstance(self.objects, LocalObjects):
            return self.objects.write(name, self._data, exclusive=True)
        for _ in range(2):
            with suppress(ObjectMissingError):
                return self.objects.link(self._source, name)
            self.objects.write(self._source, self._data)
        return self.objects.write(name, self._data, exclusive=True)

    def _current(self, stem: str, generation: int) -> tuple[int, Owner] | None:
        """The highest generation and its holder, from a generation on that is known to have been there."""
        holder = self._read(stem, generation)
        while holder is not None:
            following = self._read(stem, generation + 1)
            if following is None:
                return generation, holder
            generation, holder = generation + 1, following
        return None

    def _read(self, stem: str, generation: int) -> Owner | None:
        try:
            return Owner.from_bytes(self.objects.read(claim_name(stem, generation)))
        except ObjectMissingError:
            return None

    def is_abandoned(self, holder: Owner) -> bool:
        """Whether the holder of a claim is known to be dead: a worker of this session, or a process of this host."""
        if holder.session == self.session:
            return holder.id != self.owner.id
        return holder.place == place() and not is_running(holder.pid, holder.born)

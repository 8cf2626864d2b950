"""Signed manifests: with a key set, nothing is loaded that was not written by somebody who has it.

A pickle executes code when it is loaded, so who can write to a shared cache could run code on the machines of all who
read it. A signature (HMAC-SHA256) over the whole manifest ties what the artifact is (key, store name) to what its
files are (names, sizes, SHA-256), and it is checked before a file is opened. The key is symmetric: who can verify can
sign.

The secret stays in the process that read it. It is never written anywhere and never travels: in another process a
`Keyring` reads it again, from that process's own environment.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curidask.errors import ArtifactDamagedError, ConfigurationError
from curidask.store.manifest import split_signature, with_signature

VARIABLE = "CURIDASK_CACHE_KEY"
MIN_CHARACTERS = 16
MAKE_ONE = "python -c 'import secrets; print(secrets.token_hex(32))'"
_ABOUT = b"curidask manifest, signature 1\n"
_IDENTITY = b"curidask key, identity 1\n"


class Keyring:
    """The keys of a team: the first signs, all verify.

    Parameters
    ----------
    secrets : iterable of str
        Each of 16 characters or more.
    file : str, optional
        Where other processes read them, when the environment does not have them.
    """

    __slots__ = ("_file", "_keys", "_problem")

    def __init__(self, secrets: Iterable[str], file: str = "") -> None:
        self._keys: dict[str, bytes] = {}
        for secret in secrets:
            if len(secret) < MIN_CHARACTERS:
                raise ConfigurationError(
                    f"A signing key has {len(secret)} characters, so it could be guessed.",
                    where=file or VARIABLE,
                    fix=f"use one of {MIN_CHARACTERS} or more; this makes a good one: {MAKE_ONE}",
                )
            key = hashlib.sha256(b"curidask signing key\n" + secret.encode()).digest()
            self._keys[hmac.new(key, _IDENTITY, hashlib.sha256).hexdigest()[:8]] = key
        self._file = file
        self._problem = "" if self._keys else "no key is there"

    @classmethod
    def load(cls, file: str = "", env: Mapping[str, str] | None = None) -> Keyring | None:
        """The keys of this process; None when there are none.

        Parameters
        ----------
        file : str, optional
            A file with a key a line, which is read when the variable ``CURIDASK_CACHE_KEY`` is not set.
        env : mapping, optional
            ``os.environ`` by default.

        Raises
        ------
        ConfigurationError
            When the variable is empty, when the file cannot be read, or can be read by anybody; and for keys that can
            be guessed.
        """
        text = (os.environ if env is None else env).get(VARIABLE)
        if text is None:
            return cls(_read(file), file) if file else None
        secrets = [part.strip() for part in text.split(",") if part.strip()]
        if not secrets:
            raise ConfigurationError(
                "The variable for the signing key is set but empty, so nothing would be signed or checked.",
                where=VARIABLE,
                fix=f"set it to the key ({MAKE_ONE} makes one), or `unset {VARIABLE}` to do without",
            )
        return cls(secrets, file)

    @property
    def ids(self) -> tuple[str, ...]:
        """What the keys are called; nothing can be made of it but to tell them apart."""
        return tuple(self._keys)

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(self._keys)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_of_this_process, (self.ids, self._file))

    # --- signing and checking ----------------------------------------------------------------------------------------
    def sign(self, data: bytes) -> bytes:
        """Return an encoded manifest with a signature.

        Raises
        ------
        ConfigurationError
            When this process was to have the keys of the one that started it, and does not.
        """
        self._check_ready()
        identity, key = next(iter(self._keys.items()))
        _, body = split_signature(data)
        return with_signature(data, f"{identity}:{_digest(key, body)}")

    def problem(self, data: bytes) -> str:
        """What is wrong with the signature of an encoded manifest; empty when it is one of ours.

        Raises
        ------
        ArtifactDamagedError
            When the manifest is cut off or changed by accident.
        ConfigurationError
            As for `sign`.
        """
        self._check_ready()
        signature, body = split_signature(data)
        if not signature:
            return "not signed"
        identity, _, digest = signature.partition(":")
        key = self._keys.get(identity)
        if key is None:
            return "signed with another key"
        return "" if hmac.compare_digest(_digest(key, body).encode(), digest.encode()) else "forged"

    def _check_ready(self) -> None:
        if self._problem:
            raise ConfigurationError(
                f"Artifacts are to be signed and verified, but {self._problem}.",
                where=f"process {os.getpid()}",
                fix=f"set {VARIABLE} in the environment of the workers too (it is never sent to them), "
                "or `cache_key_file` in the configuration to a file that they can read",
            )


def signature_state(data: bytes, keys: Keyring | None) -> str:
    """How a manifest is signed, for people: with which key, and whether it is one of ours."""
    try:
        signature, _ = split_signature(data)
    except ArtifactDamagedError:
        return "damaged"
    if not signature:
        return "not signed"
    identity = signature.partition(":")[0]
    if keys is None:
        return f"signed with key {identity} (not checked: no key is set)"
    problem = keys.problem(data)
    return f"{problem} ({identity})" if problem else f"signed with key {identity}"


def _digest(key: bytes, body: bytes) -> str:
    return hmac.new(key, _ABOUT + body, hashlib.sha256).hexdigest()


def _of_this_process(ids: tuple[str, ...], file: str) -> Keyring:
    """The keys as this process has them; a `Keyring` that refuses to work when the first one is missing."""
    problem = ""
    try:
        keys = Keyring.load(file)
    except ConfigurationError as error:  # not raised while the run's settings are unpickled, where nobody would see it
        keys, problem = None, f"they cannot be read: {error.what}"
    keys = keys or Keyring([], file)
    if ids and ids[0] not in keys.ids:
        keys._problem = problem or f"this process does not have the key {ids[0]} of the run"
    return keys


def _read(file: str) -> list[str]:
    path = Path(file).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The file with the signing keys cannot be read: {error}",
            where=str(path),
            fix=f"correct `cache_key_file` in the configuration, or set {VARIABLE}",
        ) from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigurationError(
            "The file with the signing keys is open to others.", where=str(path), fix=f"chmod 600 {path}"
        )
    secrets = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not secrets:
        raise ConfigurationError(
            "The file with the signing keys is empty.", where=str(path), fix=f"write a key into it: {MAKE_ONE}"
        )
    return secrets

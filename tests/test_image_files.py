"""What of a project goes into the image of a run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from curidask.session.config import Config
from curidask.session.image import IGNORED, SECRET, choose_files

SECRETS = (
    ".env", ".env.local", "deep/.env", ".envrc", ".aws/credentials", ".ssh/id_rsa", "keys/id_ed25519",
    "keys/id_ed25519.pub", "server.key", "cert.p12", ".netrc", ".pypirc", "credentials.json",
    "service-account-1.json", "secrets.toml",
    "prod.secrets.yaml", ".config/gcloud/application_default_credentials.json", "own_name", "mine.pem", "link.txt",
)  # fmt: skip
OURS = (
    "experiments/demo.py", "keyboard.py", "monkey.txt", ".env.example", "public.pem", "tokens.py", "credentials.py",
    "about_keys.py", "curidask.toml",
)  # fmt: skip
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n"


@pytest.fixture(params=["with git", "without"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A project with secrets in it, all of which git knows."""
    folder = tmp_path / "project"
    for name in (*SECRETS, *OURS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "about_keys.py").write_text(f'"""{PRIVATE}"""')
    (folder / "mine.pem").write_text(PRIVATE)
    (folder / "public.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "id_rsa").write_text("x")
    (folder / "link.txt").unlink()
    (folder / "link.txt").symlink_to(tmp_path / "id_rsa")
    if request.param == "with git":
        git(folder, "init", "-q")
        git(folder, "add", "-f", ".")
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, check=True)


def test_no_secret_goes_in(root: Path) -> None:
    choice = choose_files(Config(root, cache_key_file="own_name"))
    hidden = {name for name in (*SECRETS, *OURS) if name.startswith(".") and "/" in name}
    without_git = set() if (root / ".git").exists() else hidden  # hidden folders are not looked into at all
    assert set(choice.taken) == set(OURS) - without_git
    assert choice.left_out == dict.fromkeys(set(SECRETS) - without_git, SECRET)


RULES = """
# results of others
*.tmp
!keep.tmp
/top.txt
folder/
deep/**/x.csv
[ab].dat
"""
MADE = {
    "one.tmp": True, "sub/one.tmp": True, "keep.tmp": False, "top.txt": True, "sub/top.txt": False,
    "folder/a.txt": True, "sub/folder/a.txt": True, "deep/x.csv": True, "deep/er/still/x.csv": True, "x.csv": False,
    "a.dat": True, "c.dat": False, "sub/own.log": True, "own.log": False,
}  # fmt: skip


@pytest.mark.parametrize("repository", ["none", "new", "all committed"])
def test_nothing_ignored_goes_in(tmp_path: Path, repository: str) -> None:
    (tmp_path / "sub").mkdir()
    for name in MADE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    if repository == "all committed":
        git(tmp_path, "init", "-q")
        git(tmp_path, "add", "-f", ".")
    (tmp_path / ".gitignore").write_text(RULES)
    (tmp_path / "sub" / ".gitignore").write_text("own.log")
    if repository == "new":
        git(tmp_path, "init", "-q")
    choice = choose_files(Config(tmp_path))
    assert {name: name not in choice.taken for name in MADE} == MADE
    if repository != "new":  # there git itself does not name them
        assert choice.left_out == {name: IGNORED for name, is_ignored in MADE.items() if is_ignored}


def test_what_an_image_ignores_stays_out(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("# big\ndata\n*.csv\n**/*.bin\n!kept.csv\nnotes/*.md\n")
    names = {
        "data/x": True, "sub/data/x": False, "a.csv": True, "kept.csv": False, "sub/a.csv": False, "a.bin": True,
        "sub/deep/a.bin": True, "notes/a.md": True, "notes/deep/a.md": False,
    }  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    choice = choose_files(Config(tmp_path, cache="elsewhere", runs="runs"))
    assert {name: name not in choice.taken for name in names} == names

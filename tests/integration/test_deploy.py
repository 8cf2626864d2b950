"""The files under deploy/, each checked by the tools that would read it. Nothing here starts a cluster."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import dask
import pytest
import yaml
from docker.utils.build import exclude_paths
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from curidask.clusters import SETTINGS, read_settings
from curidask.session.config import load_config
from tests.containers import REPOSITORY, Image, copied, read_image, read_model
from tests.deploying import check_environment, known_to_dask, leaves, parse, tool

DEPLOY = REPOSITORY / "deploy"
CHART = DEPLOY / "kubernetes"
PAGES = [DEPLOY / "README.md", CHART / "README.md", DEPLOY / "slurm" / "README.md"]


# --- the image -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def image() -> Image:
    return read_image(DEPLOY / "Dockerfile")


@pytest.fixture(scope="module")
def context() -> set[str]:
    """The files that are sent to the builder."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in ignored if line and not line.startswith("#")]
    return {path for path in exclude_paths(str(REPOSITORY), patterns) if (REPOSITORY / path).is_file()}


def test_the_dockerfile_has_no_findings() -> None:
    done = tool("hadolint", DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_all_that_is_copied_is_sent_to_the_builder(context: set[str]) -> None:
    for source, _ in copied(DEPLOY / "Dockerfile"):
        assert any(path == source or path.startswith(source.rstrip("/") + "/") for path in context), source


def test_nothing_else_is_sent_to_the_builder(context: set[str]) -> None:
    sources = [source for source, _ in copied(DEPLOY / "Dockerfile")]
    assert [p for p in context if not any(p == s or p.startswith(s.rstrip("/") + "/") for s in sources)] == []
    assert [p for p in context if p.endswith((".pyc", ".env", ".key", ".pem")) or "/data/" in p] == []


def test_the_wheel_is_built_of_what_is_copied(tmp_path: Path, context: set[str]) -> None:
    for path in context:
        if path.startswith("curidask/") or "/" not in path:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / path, tmp_path / path)
    done = tool("hatchling", "build", "-t", "wheel", "-d", tmp_path / "wheels", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    modules = {p for p in context if p.startswith("curidask/")}
    assert modules <= set(zipfile.ZipFile(wheel).namelist())


def pins(file: Path) -> list[Requirement]:
    lines = [line.rstrip(" \\") for line in file.read_text().splitlines() if re.match(r"[a-z]", line, re.IGNORECASE)]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-build.txt"])
def test_the_pinned_packages_resolve(tmp_path: Path, name: str) -> None:
    """What the resolver finds for the same input with these pins as preferences is these pins."""
    header = (DEPLOY / name).read_text().splitlines()[1]
    command = shlex.split(header.lstrip("# "))
    again = tmp_path / name
    shutil.copy(DEPLOY / name, again)
    done = tool(command[0], *command[1:-1], again, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert [str(pin) for pin in pins(again)] == [str(pin) for pin in pins(DEPLOY / name)]


def test_every_pin_has_hashes_and_fits_what_the_project_asks_for() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = re.findall(r"--extra (\S+)", (DEPLOY / "requirements.txt").read_text().splitlines()[1])
    wanted = [*project["dependencies"], *(line for e in extras for line in project["optional-dependencies"][e])]
    found = {canonicalize_name(pin.name): pin for pin in pins(DEPLOY / "requirements.txt")}
    for requirement in map(Requirement, wanted):
        (pin,) = found[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(pin.version), requirement
    blocks = re.split(r"\n(?=[a-z])", (DEPLOY / "requirements.txt").read_text(), flags=re.IGNORECASE)[1:]
    assert [block for block in blocks if "--hash=sha256:" not in block] == []


def test_the_python_of_the_image_is_one_that_the_packages_are_pinned_for() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    (version,) = re.findall(r"^ARG PYTHON=(\d+\.\d+\.\d+)$", text, re.MULTILINE)
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    assert SpecifierSet(wanted).contains(version)
    (pinned_for,) = re.findall(r"--python-version (\S+)", (DEPLOY / "requirements.txt").read_text().splitlines()[1])
    assert SpecifierSet(f">={pinned_for}").contains(version)


def test_the_image_runs_as_nobody_in_particular_and_leaves_no_cache() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert "PIP_NO_CACHE_DIR=1" in text
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2


def test_dask_in_the_image_is_set_as_runs_set_it() -> None:
    settings = yaml.safe_load((DEPLOY / "dask.yaml").read_text())
    for key, value in SETTINGS.items():
        assert dask.config.get(key, config=settings) == value, key
    assert set(leaves(settings)) <= known_to_dask(), "a setting that dask does not know"


def test_wait_ends_when_something_answers_and_says_when_nothing_does() -> None:
    script = [sys.executable, DEPLOY / "wait.py"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        subprocess.run([*script, address, "30"], check=True, timeout=60)
    done = subprocess.run([*script, address, "0"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert address in done.stderr


# --- compose ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy in which secrets may be made."""
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("s3.env"))
    return tmp_path


def make_secrets(checkout: Path) -> str:
    subprocess.run(["sh", checkout / "deploy" / "secrets.sh"], check=True, capture_output=True)
    return (checkout / "deploy" / "s3.env").read_text()


def test_compose_reads_the_file_and_everything_in_it_is_confined(checkout: Path) -> None:
    make_secrets(checkout)
    model = read_model(checkout / "deploy" / "compose.yaml")
    assert set(model["services"]) == {"certificates", "scheduler", "worker", "store", "driver"}
    for name, service in model["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}, name
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name
        assert (service.get("cap_add") is None) or name == "store"


def test_commands_of_the_compose_file_parse(checkout: Path, image: Image) -> None:
    make_secrets(checkout)
    for name, service in read_model(checkout / "deploy" / "compose.yaml")["services"].items():
        words = [*(service.get("entrypoint") or ()), *service["command"]]
        if "build" in service:
            parse(words)
        check_environment(service.get("environment") or {}, name)
    parse(image.command)


def test_the_environment_of_the_image_is_known(image: Image, tmp_path: Path) -> None:
    check_environment(image.environment, "the image")
    assert load_config(tmp_path, image.environment).runs == "/srv/output/runs"


def test_the_store_is_of_the_version_that_is_tested(checkout: Path) -> None:
    make_secrets(checkout)
    _, version = read_model(checkout / "deploy" / "compose.yaml")["services"]["store"]["image"].split(":")
    assert f" {version} " in tool("weed", "version").stdout


def test_secrets_are_made_once_on_the_machine_and_stay_there(checkout: Path) -> None:
    file = checkout / "deploy" / "s3.env"
    missing = tool("docker-compose", "-f", checkout / "deploy" / "compose.yaml", "config", "-q")
    assert missing.returncode != 0
    assert "s3.env" in missing.stderr
    first = make_secrets(checkout)
    assert re.fullmatch(r"AWS_ACCESS_KEY_ID=[0-9a-f]{20}\nAWS_SECRET_ACCESS_KEY=[0-9a-f]{40}\n", first)
    assert make_secrets(checkout) == first
    assert file.stat().st_mode & 0o777 == 0o600
    file.unlink()
    assert make_secrets(checkout) != first
    for name in ("s3.env", "tls/node.key"):
        ignored = ["git", "-C", REPOSITORY, "check-ignore", "-q", f"deploy/{name}"]
        assert subprocess.run(ignored, check=False).returncode == 0, name


# --- SLURM, scripts, pages -------------------------------------------------------------------------------------------
def scripts() -> list[Path]:
    return sorted([*DEPLOY.rglob("*.sh"), *DEPLOY.rglob("*.sbatch")])


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_scripts_have_no_findings(script: Path) -> None:
    done = tool("shellcheck", script)
    assert done.returncode == 0, done.stdout


def test_the_clusters_of_a_slurm_site_can_be_used(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster

    signal.signal(signal.SIGINT, handler)  # importing it has put another in its place
    text = (DEPLOY / "slurm" / "curidask.toml").read_text()
    (tmp_path / "curidask.toml").write_text(text)
    tables = load_config(tmp_path, {}).cluster
    assert set(tables) == {"slurm", "slurm-large", "slurm-gpu", "shared"}
    for name, table in tables.items():
        settings = read_settings(name, table, tmp_path, "curidask.toml")
        if settings.kind != "slurm":
            continue
        job = SLURMCluster.job_cls("tls://127.0.0.1:8786", name=name, **settings.options).job_script()
        directives = {line.partition(" ")[2] for line in job.splitlines() if line.startswith("#SBATCH")}
        assert {f"-p {settings.options['queue']}", f"-t {settings.options['walltime']}"} <= directives
        parse_worker(job)


def parse_worker(job: str) -> None:
    """The last line of a job starts a worker, whose arguments the real command line takes."""
    words = shlex.split(job.splitlines()[-1])
    assert words[1:3] == ["-m", "distributed.cli.dask_worker"], words
    parse(["dask", "worker", *words[3:]])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_commands_on_the_pages_parse(page: Path) -> None:
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0] for block in blocks for line in block.replace("\\\n", "").splitlines()]
    ours = [shlex.split(line) for line in lines if line.partition(" ")[0] in ("experiment", "curidask", "dask")]
    driver = [
        ["experiment", *words[words.index("driver") + 1 :]]
        for words in map(shlex.split, lines)
        if {"compose", "run", "driver"} <= set(words) and "--entrypoint" not in words
    ]
    for words in [*ours, *driver]:
        parse(words)
    for path in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / path).exists(), path


def test_no_file_names_a_secret_or_a_folder_of_somebody() -> None:
    for path in (p for p in DEPLOY.rglob("*") if p.is_file() and p.name != "s3.env"):
        text = path.read_text()
        assert "BEGIN " not in text, path
        assert os.path.expanduser("~root") + "/" not in text, path

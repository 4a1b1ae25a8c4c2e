"""What is handed on: a wheel that works where the repository is not, and an sdist that holds what its tests need."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from helpers import ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built by the tool that pyproject.toml names."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return folder


def test_a_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    files = {path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert names == {path.relative_to(source).as_posix() for path in files}


def test_an_sdist_holds_what_its_tests_need(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("src", "tests", "bench", "studies", "tools", "docs"):
        python = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}
        assert python <= names, f"missing: {sorted(python - names)}"
    for file in (
        "Makefile",
        "constraints.txt",
        "pyproject.toml",
        "README.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "LICENSE",
    ):
        assert file in names


@pytest.fixture(scope="module")
def elsewhere(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing of its own but the wheel. Its dependencies are those of the running one."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home / "env", with_pip=False)
    python = home / "env" / "bin" / "python"
    wheel = str(next(built.glob("*.whl")))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", wheel],
        check=True,
    )
    # A path in a .pth file is added behind the environment's own, and .pth files behind it are not read: the cuma that
    # is being tested, which is installed by such a file, cannot be found from there.
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    Path(own, "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return home


def run(home: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [home / "env" / "bin" / command[0], *command[1:]],
        cwd=home, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_an_installed_wheel_lists_recipes_and_trains(elsewhere: Path) -> None:
    home = run(elsewhere, "python", "-c", "import cuma; print(cuma.__file__)").strip()
    assert Path(home).is_relative_to(elsewhere)
    assert "quickstart/gss/cuma" in run(elsewhere, "cuma", "list", "recipes")
    run(
        elsewhere, "cuma", "train", "quickstart/gss/cuma", "training.max_steps=3", "training.curve_steps=[]",
        "adapter.last_layers=1", "--output-dir", "run",
    )  # fmt: skip
    assert (elsewhere / "run" / "adapter" / "adapter_model.safetensors").is_file()

"""Who may import whom, and that the parent process stays light. The contracts are in pyproject.toml."""

import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "llama_cpp", "numpy", "PIL", "huggingface_hub", "diffusers", "transformers", "safetensors")


def modules(package: str) -> list[str]:
    """Return a package and all modules below it, by their files alone."""
    folder = str(ROOT / package.replace(".", "/"))
    return [package, *(found.name for found in pkgutil.walk_packages([folder], f"{package}."))]


def parent_modules() -> list[str]:
    every = [*modules("server"), *modules("compat")]
    return [name for name in every if not name.startswith("server.engines.") and not name.endswith("__main__")]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_import_contracts_hold() -> None:
    tool = Path(sys.executable).parent / "lint-imports"
    if not tool.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_parent_process_imports_nothing_heavy() -> None:
    code = f"""
import importlib, sys
for name in {parent_modules()!r}:
    importlib.import_module(name)
    heavy = sorted(set({HEAVY!r}) & set(sys.modules))
    if heavy:
        sys.exit(f"{{name}} brings {{heavy}} into the parent process")
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_a_child_starts_without_web_asyncio_and_libraries() -> None:
    banned = (*HEAVY, "asyncio", "litestar", "uvicorn", "starlette", "sse_starlette")
    code = f"import server.workers.child, sys; print(sorted(set({banned!r}) & set(sys.modules)))"
    done = run(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_engines_are_named_by_strings_that_lead_somewhere() -> None:
    from server.engines import LOADERS

    for runtime, target in LOADERS.items():
        module, _, name = target.partition(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None and spec.origin is not None, f"{runtime} names {module}, which is not there"
        assert f"class {name}" in Path(spec.origin).read_text(), f"{module} has no {name}"


def test_every_package_is_found_by_the_installer() -> None:
    """A folder without `__init__.py` is importable from a checkout and missing from a wheel."""
    folders = {file.parent for top in ("server", "compat") for file in (ROOT / top).rglob("*.py")}
    bare = [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()]
    assert bare == []

"""Rules about files that no other tool knows; prints every broken one and exits with 1.

Needs nothing but the standard library, so that it can judge any checkout.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

MEGABYTE = 10**6
PACKAGES = ("superlink", "router", "decoders", "agents", "workflows")
# Folders of somebody's own machine have no place in the tree.
MACHINE_PATH = re.compile(rb"(?<![\w.~/-])/(?:work|home/\w+|root|Users/\w+)/[\w.-]+")


def broken_rules(root: Path) -> list[str]:
    """One line for each broken rule."""
    files = _tracked(root)
    return [
        *_sizes(root, files),
        *_machine_paths(root, files),
        *_packages(root),
        *_package_data(root, files),
        *_type_links(root),
        *_long_files(root, files),
    ]


def torchvision_present() -> bool:
    """Whether torchvision is installed: its mere presence breaks transformers beside a CPU torch."""
    return importlib.util.find_spec("torchvision") is not None


def _tracked(root: Path) -> list[str]:
    if not (root / ".git").exists():  # an unpacked archive holds just the files in question
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=root, capture_output=True, check=True)
    names = done.stdout.decode().split("\0")
    return sorted({name for name in names if name and (root / name).is_file()})


def _sizes(root: Path, files: list[str]) -> list[str]:
    broken = []
    sizes = {name: (root / name).stat().st_size for name in files if not (root / name).is_symlink()}
    for folders, limit in ((("superlink/weights/", "training/"), 60), (("tests/fixtures/",), 20)):
        total = sum(size for name, size in sizes.items() if name.startswith(folders))
        if total > limit * MEGABYTE:
            full = " with ".join(one for one in folders if any(name.startswith(one) for name in sizes))
            broken.append(f"{full} holds {total / MEGABYTE:.1f} MB, at most {limit} MB are allowed")
    for name, size in sizes.items():
        if size >= 16 * MEGABYTE:
            broken.append(f"{name} has {size / MEGABYTE:.1f} MB, a file must stay under 16 MB")
    return broken


def _machine_paths(root: Path, files: list[str]) -> list[str]:
    broken = []
    for name in files:
        if name.endswith((".safetensors", ".png", ".jpg", ".npz")) or (root / name).is_symlink():
            continue
        for number, line in enumerate((root / name).read_bytes().splitlines(), start=1):
            found = MACHINE_PATH.search(line)
            if found:
                broken.append(f"{name}:{number}: a path of one machine: {found.group().decode()}")
    return broken


def _packages(root: Path) -> list[str]:
    """Every folder of Python files is listed in pyproject.toml, or the wheel would lack it."""
    text = (root / "pyproject.toml").read_text()
    listed = set(ast.literal_eval(_section(text, "packages = ", "]")))
    folders = dict(re.findall(r'^"(superlink[\w.]*)" = "([\w/]+)"$', text, re.MULTILINE))
    found = {}
    for top in PACKAGES:
        for folder, below, names in os.walk(root / top):
            below[:] = [name for name in below if name.isidentifier() and name != "__pycache__"]
            if any(name.endswith(".py") for name in names):
                path = Path(folder).relative_to(root).as_posix()
                dotted = path.replace("/", ".")
                found[dotted if top == "superlink" else f"superlink.{dotted}"] = path
    broken = [f"pyproject.toml: {name!r} is missing in packages" for name in sorted(found.keys() - listed)]
    broken += [f"pyproject.toml: package {name!r} has no files" for name in sorted(listed - found.keys())]
    broken += [
        f'pyproject.toml: package-dir needs "{name}" = "{path}"'
        for name, path in sorted(found.items())
        if name in listed and folders.get(name) != path
    ]
    broken += [f"{path}/__init__.py is missing" for path in found.values() if not _has_init(root / path)]
    return broken


def _package_data(root: Path, files: list[str]) -> list[str]:
    """Every other file inside a package is covered by package-data, or the wheel would lack it."""
    text = (root / "pyproject.toml").read_text()
    section = text.split("[tool.setuptools.package-data]")[1].split("\n[")[0]
    folders = dict(re.findall(r'^"(superlink[\w.]*)" = "([\w/]+)"$', text, re.MULTILINE))
    covered: set[Path] = set()
    for name, globs in re.findall(r'^"?([\w.]+)"? = (\[.*?\])', section, re.MULTILINE | re.DOTALL):
        for glob in ast.literal_eval(globs):
            covered.update((root / folders[name]).glob(glob))
    return [
        f"{name} is in no wheel; add it to package-data in pyproject.toml"
        for name in files
        if name.split("/")[0] in PACKAGES and not name.endswith(".py") and root / name not in covered
    ]


def _has_init(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


def _section(text: str, start: str, end: str) -> str:
    at = text.index(start) + len(start)
    return text[at : text.index(end, at) + len(end)]


def _type_links(root: Path) -> list[str]:
    """typings/superlink links every package and every module of superlink/ under its import name."""
    links = root / "typings" / "superlink"
    wanted = {name: f"../../{name}" for name in PACKAGES[1:]}
    for entry in sorted((root / "superlink").iterdir()):
        package = entry.is_dir() and _has_init(entry)
        if package or entry.suffix == ".py" or entry.name == "py.typed":
            wanted[entry.name] = f"../../superlink/{entry.name}"
    broken = [
        f"typings/superlink/{name} is missing: ln -s {target} typings/superlink/{name}"
        for name, target in wanted.items()
        if not (links / name).is_symlink() or os.readlink(links / name) != target
    ]
    extra = sorted({entry.name for entry in links.iterdir()} - wanted.keys() - {"__pycache__"})
    return broken + [f"typings/superlink/{name} links nothing: remove it" for name in extra]


def _long_files(root: Path, files: list[str]) -> list[str]:
    broken = []
    for name in files:
        if name.endswith(".py") and not (root / name).is_symlink():
            lines = len((root / name).read_text().splitlines())
            if lines > 500:
                broken.append(f"{name} has {lines} lines; split it where its description says 'and'")
    return broken


def main() -> int:
    broken = broken_rules(Path(__file__).resolve().parents[1])
    if torchvision_present():
        broken.append("torchvision is installed; nothing may depend on it: pip uninstall torchvision")
    for line in broken:
        sys.stderr.write(line + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""The way of the data has one direction: who may import whom."""

import ast
from functools import cache

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "kldrift"
GROUND = {"records", "errors"}

#: Folder -> what it may import of ours. Every folder has a row; no folder imports one that stands above it here.
ALLOWED = {
    "cli": {
        "cli", "daemon", "web", "pages", "offline", "assembly", "datafiles", "engine", "drift", "wire", "provisioning",
        "kernels", "sources", "config", "export", *GROUND,
    },
    "daemon": {
        "daemon", "web", "assembly", "engine", "drift", "kernels", "sources", "config", "state", "export", *GROUND,
    },
    "web": {"web", "pages", *GROUND},
    "pages": {"pages", *GROUND},
    "offline": {"offline", "assembly", "datafiles", "drift", "wire", "kernels", "config", *GROUND},
    "assembly": {"assembly", "datafiles", "drift", "wire", "sources", "config", *GROUND},
    "datafiles": {"datafiles", "wire", "sources", *GROUND},
    "engine": {"engine", "drift", "wire", "sources", "state", "export", *GROUND},
    "drift": {"drift", "kernels", *GROUND},
    "wire": {"wire", "kernels", *GROUND},
    "provisioning": {"provisioning", "export", *GROUND},
    "kernels": {"kernels", *GROUND},
    "sources": {"sources", *GROUND},
    "config": {"config", *GROUND},
    "state": {"state", *GROUND},
    "export": {"export", *GROUND},
    "records": {"records"},
    "client": {"client"},
}  # fmt: skip

#: Modules that stand loose at the top.
LOOSE = {"__init__", "__main__", "errors"}

#: The parts of `drift`, from the top down: none imports one above it.
DRIFT = ("monitor", "counting", "segments", "judging", "references", "kinds", "rest")

#: single modules that a part may import besides: pure functions of what stands in a snapshot
BESIDES = {
    "web": {"kldrift.drift.judging.sensitivity", "kldrift.drift.judging.states"},
    "pages": {
        "kldrift.drift.judging.explanation",
        "kldrift.drift.judging.sensitivity",
        "kldrift.drift.judging.spelling",
        "kldrift.drift.judging.states",
        "kldrift.offline.backtest.outcome",
    },
}

#: libraries that only some may know
ONLY = {
    "yaml": {"config"},
    "pydantic": {"config"},
    "numba": {"kernels", "cli", "export"},
    "llvmlite": {"kernels"},
    "starlette": {"web"},
    "jinja2": {"pages"},
    "uvicorn": {"web"},
    "prometheus_client": {"export"},
    "scipy": {"drift"},
    "sqlite3": {"state"},
    "bcrypt": {"web"},
    "confluent_kafka": {"sources"},
    "pickle": set(),
}


@cache
def imports() -> list[tuple[str, str, str]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                names = [node.module or ""]
                if node.module == "kldrift":
                    names = [f"kldrift.{alias.name}" for alias in node.names]
            found += [(str(path.relative_to(ROOT)), part, name) for name in names]
    return found


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_a_part_imports_only_what_lies_before_it_in_the_way_of_the_data(part: str) -> None:
    wrong = [
        f"{path}: {name}"
        for path, owner, name in imports()
        if owner == part
        and name.startswith("kldrift.")
        and name != "kldrift.__version__"
        and name.split(".")[1] not in ALLOWED[part]
        and name not in BESIDES.get(part, set())
    ]
    assert not wrong


@pytest.mark.parametrize("module", sorted(set().union(*BESIDES.values())))
def test_a_module_that_a_part_may_import_besides_brings_nothing_else_along(module: str) -> None:
    path = f"{module.replace('.', '/')}.py"
    brought = {
        name.split(".")[1] for importer, _, name in imports() if importer == path and name.startswith("kldrift.")
    }
    assert brought <= GROUND


@pytest.mark.parametrize("library", sorted(ONLY))
def test_a_library_is_known_only_where_it_belongs(library: str) -> None:
    wrong = [
        f"{path}: {name}"
        for path, owner, name in imports()
        if name.split(".")[0] == library and owner not in ONLY[library]
    ]
    assert not wrong


def module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def graph() -> dict[str, set[str]]:
    """The modules of ours that each module imports, wherever in it: at its top, in a function, or for types alone."""
    found: dict[str, set[str]] = {module_of(str(path.relative_to(ROOT))): set() for path in PACKAGE.rglob("*.py")}
    for path in sorted(PACKAGE.rglob("*.py")):
        imported = found[module_of(str(path.relative_to(ROOT)))]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names if alias.name in found}
            elif isinstance(node, ast.ImportFrom) and node.module in found:
                submodules = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= submodules & found.keys()
                if not submodules <= found.keys():
                    imported.add(node.module)
    return found


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle, the first one again at the end; empty if there is none."""
    finished: set[str] = set()

    def search(module: str, above: list[str]) -> list[str]:
        if module in above:
            return [*above[above.index(module) :], module]
        if module not in finished:
            for imported in sorted(edges[module]):
                if found := search(imported, [*above, module]):
                    return found
            finished.add(module)
        return []

    return next(filter(None, (search(module, []) for module in sorted(edges))), [])


def test_no_files_import_one_another_in_a_circle() -> None:
    found = circle(graph())
    assert not found, " -> ".join(found)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
        ({"a": {"a"}}, ["a", "a"]),
    ],
    ids=["a diamond is not a circle", "two files", "one file"],
)
def test_a_circle_is_found_and_named(edges: dict[str, set[str]], expected: list[str]) -> None:
    assert circle(edges) == expected


def test_every_folder_has_a_row_and_nothing_stands_loose_at_the_top() -> None:
    found = {path.stem if path.suffix else path.name for path in PACKAGE.iterdir() if path.suffix in {"", ".py"}}
    assert found - {"__pycache__"} == set(ALLOWED) | LOOSE


def test_no_folder_imports_one_that_stands_above_it() -> None:
    rank = {part: place for place, part in enumerate(ALLOWED)}
    up = {f"{part} -> {other}" for part, others in ALLOWED.items() for other in others - {"errors"}
          if rank[other] < rank[part]}  # fmt: skip
    assert not up


def test_the_parts_of_drift_import_only_what_stands_below_them() -> None:
    def rank(module: str) -> int:
        part = module.split(".")[2]
        return DRIFT.index(part if part in DRIFT else "rest")

    wrong = [
        f"{path}: {name}"
        for path, owner, name in imports()
        if owner == "drift"
        and name.startswith("kldrift.drift.")
        and rank(name) < rank(path.removesuffix(".py").replace("/", "."))
    ]
    assert not wrong

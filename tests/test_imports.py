"""The way of the data has one direction: who may import whom."""

import ast
from functools import cache

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "kldrift"
RECORDS = {"records", "errors"}

#: folder or module -> what it may import of ours; whatever is not listed may import everything
ALLOWED = {
    "records": {"records"},
    "errors": set(),
    "client": {"client"},
    "kernels": {"kernels", *RECORDS},
    "drift": {"drift", "kernels", *RECORDS},
    "sources": {"sources", *RECORDS},
    "wire": {"wire", "kernels", *RECORDS},
    "config": {"config", *RECORDS},
    "assembly": {"assembly", "config", "datafiles", "drift", "sources", "wire", *RECORDS},
    "datafiles": {"datafiles", "sources", "wire", *RECORDS},
    "export": {"export", *RECORDS},
    "provisioning": {"provisioning", "export", *RECORDS},
    "pages": {"pages", *RECORDS},
    "web": {"web", "pages", *RECORDS},
    "state": {"state", *RECORDS},
    "offline": {"offline", "assembly", "config", "datafiles", "drift", "kernels", "wire", *RECORDS},
    "engine": {"engine", "drift", "export", "sources", "state", "wire", *RECORDS},
}

#: single modules that a part may import besides: pure functions of what stands in a snapshot
BESIDES = {
    # the API takes the one series apart that it is asked for, so that the snapshot need not hold that of all
    "web": {"kldrift.drift.judging.explanation", "kldrift.drift.judging.verdicts"},
    "pages": {
        "kldrift.drift.judging.explanation",
        "kldrift.drift.judging.verdicts",
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
    assert brought <= RECORDS


@pytest.mark.parametrize("library", sorted(ONLY))
def test_a_library_is_known_only_where_it_belongs(library: str) -> None:
    wrong = [
        f"{path}: {name}"
        for path, owner, name in imports()
        if name.split(".")[0] == library and owner not in ONLY[library]
    ]
    assert not wrong

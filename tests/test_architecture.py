"""Imports inside ``recsys`` point one way, and never round in a circle; docs/architecture.md says which way.

Also what may not grow: modules, what stands beside the packages, values of any type, tables with a layout of their own.
"""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: From the bottom up: a package imports from its own layer and from those before it.
LAYERS = [
    ["exceptions"],
    ["settings", "urls", "yaml_file"],
    ["storage"],
    ["experiments", "schemas"],
    ["catalog"],
    ["logs", "versions", "learn"],
    ["models", "service", "simulate", "imports"],
    ["abtest"],
    ["rollout"],
    ["night"],
    ["score"],
    ["frames"],
    ["inspection"],
    ["platform"],
    ["cli"],
]
#: Lines of a module, and modules that stand beside the packages.
MOST_LINES, MOST_BESIDE_PACKAGES = 350, 8
#: The word Any, imports included, and tables that ruff leaves as they are.
MOST_WORDS_ANY, MOST_OWN_LAYOUTS = 80, 60
#: What others may call of the simulator: shards are started, worlds written, checked and grown, listeners played. Who likes what
#: stays inside.
SIMULATOR_DOORS = {f"recsys.simulate.{name}" for name in ("shards", "world", "growth", "audience")}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text()) for path in sorted((ROOT / "recsys").rglob("*.py"))}


def imports(tree: ast.AST, everywhere: bool) -> set[str]:
    """Names of the modules that are imported when the module is, or ``everywhere``: inside functions too. Types do not count."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            parts = {f"{node.module}.{name.name}" for name in node.names} & MODULES.keys()
            found |= parts or {str(node.module)}
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found |= imports(node, everywhere)
    return found


def layer(module: str) -> int:
    return next((i for i, names in enumerate(LAYERS) if part(module) in names), len(LAYERS))


def part(module: str) -> str:
    """What a module belongs to below ``recsys``: its package, or its own name."""
    return module.split(".")[1] if module.startswith("recsys.") else ""


#: Who imports what, wherever in the module.
EDGES = [(module, wanted) for module, tree in MODULES.items() for wanted in sorted(imports(tree, everywhere=True))]


def test_layers_name_modules() -> None:
    assert {name for names in LAYERS for name in names} <= {part(module) for module in MODULES}


def test_imports_point_down() -> None:
    assert [edge for edge in EDGES if layer(edge[1]) > layer(edge[0]) and part(edge[1])] == []


def test_service_and_simulator_know_each_other_over_http_alone() -> None:
    assert [edge for edge in EDGES if {part(edge[0]), part(edge[1])} == {"service", "simulate"}] == []


def test_the_package_imports_nothing_that_is_built_on_it() -> None:
    above = ("airflow", "dags", "plugins", "tests", "benchmarks")
    assert [edge for edge in EDGES if edge[1].split(".")[0] in above] == []


@pytest.mark.parametrize("everywhere", [False, True], ids=["as modules are loaded", "inside functions too"])
def test_no_import_goes_round_in_a_circle(everywhere: bool) -> None:
    graph = {module: imports(tree, everywhere) & MODULES.keys() - {module} for module, tree in MODULES.items()}
    TopologicalSorter(graph).prepare()


def test_no_package_needs_another_that_needs_it() -> None:
    graph: dict[str, set[str]] = {}
    for module, wanted in EDGES:
        if part(wanted) and part(module) and part(wanted) != part(module):
            graph.setdefault(part(module), set()).add(part(wanted))
    TopologicalSorter(graph).prepare()


def test_a_module_is_read_in_one_sitting() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / "recsys").rglob("*.py")}
    assert [(str(path.relative_to(ROOT)), lines) for path, lines in lengths.items() if lines > MOST_LINES] == []


def test_only_what_everybody_needs_stands_beside_the_packages() -> None:
    assert len(list((ROOT / "recsys").glob("*.py"))) <= MOST_BESIDE_PACKAGES


def test_any_type_stands_where_a_library_forces_it_alone() -> None:
    assert found_in("recsys dags plugins", r"\bAny\b") <= MOST_WORDS_ANY


def test_few_tables_keep_a_layout_of_their_own() -> None:
    assert found_in("recsys dags plugins docker benchmarks notebooks tests", "fmt: [s]kip") <= MOST_OWN_LAYOUTS


def found_in(folders: str, pattern: str) -> int:
    """How often a pattern occurs in the Python files of some folders."""
    paths = [path for folder in folders.split() for path in (ROOT / folder).rglob("*.py")]
    assert paths
    return sum(len(re.findall(pattern, path.read_text())) for path in paths)


def test_tables_for_people_are_nobody_else_s() -> None:
    assert {part(module) for module, wanted in EDGES if part(wanted) == "frames"} <= {"cli"}


def test_nobody_reads_the_simulator_s_truth_but_the_simulator() -> None:
    outside = [edge for edge in EDGES if part(edge[1]) == "simulate" and part(edge[0]) not in ("simulate", "platform")]
    assert [edge for edge in outside if edge[1] not in SIMULATOR_DOORS] == []
    truth = ("tracks.npy", "interests", "consume_bias", "consume_sharpness")
    texts = {
        module: {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        for module, tree in MODULES.items()
        if part(module) not in ("simulate", "platform")
    }
    assert [(module, text) for module, found in texts.items() for text in found if text in truth] == []

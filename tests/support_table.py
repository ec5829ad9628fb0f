"""Writes docs/support.md from the tests themselves: what each of them is marked to prove or to refuse.

python -m tests.support_table            # write
python -m tests.support_table --check    # exit 1 if what is written differs from what would be
"""

from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path

from tests import collecting
from tests.cells import ASPECTS
from tests.oracle import TERMS

DOCUMENT = Path(__file__).parent.parent / "docs" / "support.md"
LETTERS = {"value": "V", "gradient": "G", "parity": "P"}

# Why a cell has no parity: the first pattern of "framework: solver: term" that fits.
NO_PARITY = [
    (
        "torchdiffeq: adaptive_heun: *",
        "a step starts with the last slope of the one before, at another state: agrees with diffrax's Heun on one "
        "step, not on several (`test_adaptive_heun_differs_from_heun_by_the_slope_it_starts_from`)",
    ),
    ("torchdiffeq: fehlberg2: *", "no other framework has the method"),
    ("torchode: tsit5: *", "torchdiffeq has no such method in its release"),
    ("torchode: heun: *", "torchdiffeq's adaptive_heun starts a step with another slope"),
    ("torchsde: log_ode*", "no other framework has the method"),
    ("torchsde: srk, *, additive: kinetic_energy", "diffrax does not show the drift of an SDE's stages"),
    ("torchsde: srk, *, additive: slope_change", "diffrax does not show the drift of an SDE's stages"),
    ("torchsde: srk*", "no other framework has the method for this noise"),
    ("torchsde: *", "diffrax does not show the drift of an SDE's stages"),
    ("diffrax: HalfSolver(*), SDE: *", "torchsde has no such method"),
    ("diffrax: *, SDE: *", "torchsde estimates every error by step doubling"),
    ("diffrax: HalfSolver(*: *", "torchdiffeq has no step doubling"),
    ("diffrax: *, CDE: *", "torchdiffeq has no controls"),
    ("diffrax: Heun: *", "torchdiffeq's adaptive_heun starts a step with another slope"),
    ("diffrax: *: *", "torchdiffeq has no such method"),
]

GROUPS = [
    ("ODEs", "*"),
    ("CDEs", "*, CDE"),
    ("SDEs", "*, SDE"),
    ("Step doubling", "HalfSolver(*"),
    ("Step doubling of SDEs", "HalfSolver(*), SDE"),
]


def collect():
    """The marks of every test: proven cells, and refused cells."""
    proven, refused = defaultdict(dict), {}
    for mark, (framework, solver, terms, what), test in collecting.collect("proves", "refuses"):
        for term in terms:
            if mark == "refuses":
                refused[framework, solver, term] = what, test
                continue
            for aspect in what:
                proven[framework, solver, term].setdefault(aspect, test)
    return proven, refused


def why_no_parity(framework, solver, term):
    """The reason, for a cell without parity."""
    return next(reason for pattern, reason in NO_PARITY if fnmatch(f"{framework}: {solver}: {term}", pattern))


def rows(proven, refused):
    """(framework, solver) in the order of the tests."""
    return list(dict.fromkeys((framework, solver) for framework, solver, _ in [*proven, *refused]))


def _group(solver):
    return next(name for name, pattern in reversed(GROUPS) if fnmatch(solver, pattern))


def _why(reasons):
    """One reason where it is the same for every term, or each with its terms."""
    merged = defaultdict(list)
    for term, reason in reasons.items():
        merged[reason].append(term)
    if len(merged) == 1 and len(reasons) == len(TERMS):
        return next(iter(merged))
    return "; ".join(f"{', '.join(terms)}: {reason}" for reason, terms in merged.items())


def _row(framework, solver, proven, refused):
    cells, reasons = [], {}
    for term in TERMS:
        key = framework, solver, term
        if key in refused:
            cells.append("refused")
            reasons[term] = refused[key][0]
            continue
        cells.append(" ".join(LETTERS[aspect] for aspect in ASPECTS if aspect in proven[key]))
        if "parity" not in proven[key]:
            reasons[term] = f"no parity, {why_no_parity(*key)}"
    return f"| {solver} | {' | '.join(cells)} | {stiffness_of(framework, solver)} | {_why(reasons)} |"


def _table(framework, solvers, proven, refused):
    titles = ["solver", *TERMS, "S: evaluations, stability size", "why not"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    return "\n".join([*lines, *(_row(framework, solver, proven, refused) for solver in solvers)])


def stiffness_of(framework, solver):
    """What the stiffness costs beyond the solver's own evaluations, and the stability size; a dash where refused."""
    known = {
        "torchdiffeq": _of_torchdiffeq,
        "torchode": _of_torchode,
        "torchsde": _of_torchsde,
        "diffrax": _of_diffrax,
        "jax_ode": _of_jax_ode,
        "torchdyn": _of_torchdyn,
    }[framework](solver)
    if known is None:
        return "-"
    evaluations, size = known
    return f"{evaluations}, {'none' if size is None else format(size, '.4f')}"


def _of_torchdiffeq(solver):
    from torchdiffeq._impl.odeint import SOLVERS

    from solvertap_torchdiffeq._method import tableau_of

    method = SOLVERS[solver]
    if not hasattr(method, "mid"):  # the adaptive methods have dense output of their own
        return None
    return tableau_of(method).stiffness_evaluations, tableau_of(method).stability_size


def _of_torchode(solver):
    from solvertap_torchode._method import Method
    from tests.torchode_problem import METHODS

    if solver not in METHODS:
        return None
    tableau = Method.of(METHODS[solver](None), None).tableau
    return tableau.stiffness_evaluations, tableau.stability_size


def _of_torchdyn(solver):
    from torchdyn.numerics.solvers.ode import SOLVER_DICT

    from solvertap_torchdyn._method import Method

    method = SOLVER_DICT[solver]()
    if method.stepping_class == "fixed":
        return None
    known = Method.of(method)
    return known.tableau.stiffness_evaluations, known.stability_size


def _of_torchsde(solver):
    from torchsde._core.methods import select

    from solvertap_torchsde._method import stability_size

    if solver.startswith("adaptive=False"):
        return None
    method, calculus, noise = solver.split(", ")
    return 2, stability_size(select(method, calculus).__name__, noise)


def _of_diffrax(solver):
    from solvertap_diffrax._method import stability_size, tableau
    from tests import diffrax_oracle, test_oracle_diffrax_doubled, test_oracle_diffrax_ode, test_oracle_diffrax_sde

    modules = test_oracle_diffrax_ode, test_oracle_diffrax_doubled, test_oracle_diffrax_sde
    found = [module.SOLVERS[solver] for module in modules if solver in module.SOLVERS]
    if not found:
        return None
    build, method = found[0][:2]
    shown = tableau(method, build(diffrax_oracle.WEIGHTS).terms)
    return 2 if shown is None else shown.stiffness_evaluations, stability_size(method)


def _of_jax_ode(_):
    from solvertap_jax_ode._step import TABLEAU

    return TABLEAU.stiffness_evaluations, TABLEAU.stability_size


def _short(nodeid):
    return f"`{nodeid.removeprefix('tests/')}`"


def _tests(proven, refused):
    lines = ["| solver | term | value and gradient | parity |", "|---|---|---|---|"]
    for framework, solver in rows(proven, refused):
        for term in TERMS:
            key = framework, solver, term
            if key in refused:
                lines.append(f"| {framework} {solver} | {term} | refused: {_short(refused[key][1])} | |")
                continue
            found = proven[key]
            parity = _short(found["parity"]) if "parity" in found else ""
            lines.append(f"| {framework} {solver} | {term} | {_short(found['gradient'])} | {parity} |")
    return "\n".join(lines)


def document(proven, refused):
    """The whole of docs/support.md, of what `collect` returns."""
    sections = [
        "# What is supported, and which test proves it",
        "Written by `make docs` from the marks of the tests; a test fails where it is not current.\n\n"
        "- **V**: the value is that of an independent replay of the same steps, to 1e-9.\n"
        "- **G**: the gradient equals central differences on the frozen grid, to 1e-6, in float64, on a problem "
        "that rejects steps.\n"
        "- **P**: another framework gives the same value and gradient: aligned and free-running to 1e-9 and 1e-7, "
        "on a prescribed grid to 1e-11 and 1e-9, SDEs on one Brownian path to 1e-12 and 1e-11.\n"
        "- **refused**: the solve raises before it starts, with the remedy; never a penalty without gradient.\n"
        "- **S: evaluations, stability size**: the evaluations of the field that `Stiffness` adds to a step, and what "
        '`Stiffness(stability_size="solver")` divides by: the largest h |lambda| on the negative axis for which the '
        "method is stable, of the drift alone for an SDE.",
    ]
    for framework in ("torchdiffeq", "torchode", "torchsde", "diffrax", "jax_ode", "torchdyn"):
        sections.append(f"## {framework}")
        solvers = [solver for owner, solver in rows(proven, refused) if owner == framework]
        for group, _ in GROUPS:
            here = [solver for solver in solvers if _group(solver) == group]
            if here:
                title = [f"### {group}"] if framework == "diffrax" else []
                sections += [*title, _table(framework, here, proven, refused)]
    sections += ["## The tests", _tests(proven, refused)]
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    collecting.write_or_check(DOCUMENT, document(*collect()))

"""The mutants of a source: each a change that a test ought to notice, and nothing else."""

from tests.mutants import mutants
from tests.mutate import EXCUSED, ROOT, SUBJECTS

SOURCE = '''
"""Says something."""

MOST: int = 3


class Reader(Protocol):
    def read(self, most: int = 7) -> bool: ...


def allowed(lots: int, held: int, is_open: bool) -> bool:
    """Return whether 5 > 4."""
    if is_open and lots + held <= MOST:
        return True
    raise ValueError(f"{lots + 1} is more than {MOST:>9}")
'''


def changes() -> set[str]:
    return {each.change for each in mutants(SOURCE)}


def test_each_boundary_each_condition_and_each_way_out_is_changed_once() -> None:
    test = "is_open and lots + held <= MOST"
    assert changes() == {
        *("3 -> 4", "3 -> 2"),
        *(f"if {test} -> if False and ({test})", f"if {test} -> if True or ({test})"),
        *(f"{test} -> is_open or lots + held <= MOST", f"{test} -> lots + held <= MOST"),
        f"{test} -> is_open",
        *("lots + held <= MOST -> lots + held < MOST", "lots + held <= MOST -> lots + held > MOST"),
        "lots + held -> lots - held",
        *("return True -> return None", "True -> False"),
        "raise ValueError(f'{lots + 1} is more than {MOST:>9}') -> pass",
    }


def test_a_mutant_says_where_it_is_and_leaves_the_next_one_alone() -> None:
    found = mutants(SOURCE)
    assert len({each.source for each in found}) == len(found)
    boundary = next(each for each in found if each.change.endswith("held < MOST"))
    assert (boundary.line, boundary.function) == (13, "allowed")
    assert "lots + held < MOST" in boundary.source and "most: int=7" in boundary.source


def test_what_is_excused_is_still_there() -> None:
    for subject in {key[0] for key in EXCUSED}:
        source = (ROOT / SUBJECTS[subject].source).read_text()
        there = {(subject, each.function, each.change) for each in mutants(source)}
        assert {key for key in EXCUSED if key[0] == subject} <= there

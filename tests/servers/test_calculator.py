from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh_servers import ServersError
from agentmesh_servers.calculator.expression import MAX_DEPTH, MAX_LENGTH, compute, evaluate
from agentmesh_servers.calculator.rational import exact_text, rounded_text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("17 * 23", "391"),
        ("15% of 240", "36"),
        ("1/3", "1/3 (about 0.333333)"),
        ("-2/3", "-2/3 (about -0.666667)"),
        ("0.1 + 0.2", "0.3"),
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("10 - 4 - 3", "3"),
        ("100 / 10 / 5", "2"),
        ("2 ^ 3 ^ 2", "512"),
        ("2 ** 10", "1024"),
        ("-2 ^ 2", "-4"),
        ("2 ^ -3", "0.125"),
        ("--5", "5"),
        ("5--3", "8"),
        ("7 // 2", "3"),
        ("-7 // 2", "-4"),
        ("7 % 3", "1"),
        ("-7 % 3", "2"),
        ("7 mod 3", "1"),
        ("15%", "0.15"),
        ("50% - 3", "-2.5"),
        ("20% of 50% of 80", "8"),
        ("200 * 10%", "20"),
        ("3 × 4 ÷ 2", "6"),
        ("3x4", "12"),
        ("3 X 4", "12"),
        ("8 times 7", "56"),
        ("5 − 2", "3"),
        ("17 * 23 =", "391"),
        (".5 + 5.", "5.5"),
        ("1.5e3", "1500"),
        ("1.5e-3", "0.0015"),
        ("5!", "120"),
        ("sqrt(9)", "3"),
        ("√16", "4"),
        ("sqrt(16/9)", "4/3 (about 1.333333)"),
        ("sqrt(2)", "about 1.414214"),
        ("4 ^ 0.5", "2"),
        ("sqrt(2) ^ 30", "about 32768.000000"),
        ("abs(-3)", "3"),
        ("floor(-2.5)", "-3"),
        ("ceil(2.1)", "3"),
        ("round(2.5)", "3"),
        ("0 ^ 0", "1"),
        ("(-1) ^ 99999999999", "-1"),
        ("1 ^ 99999999999", "1"),
        ("2 ^ 100", "1267650600228229401496703205376"),
        ("1 / 2 ^ 30", "0.000000000931322574615478515625"),
        ("1 / 3000000", "1/3000000 (about 3.333333e-7)"),
        ("10 ^ 30 / 7", "1000000000000000000000000000000/7 (about 1.428571e+29)"),
    ],
)
def test_an_expression_has_this_wording(expression: str, text: str) -> None:
    assert evaluate(expression).text == text


@pytest.mark.parametrize(
    ("expression", "reason", "word"),
    [
        ("", "bad_input", "empty"),
        ("   ", "bad_input", "empty"),
        ("=", "bad_input", "empty"),
        ("2 +", "bad_input", "too early"),
        ("* 2", "bad_input", "'*'"),
        ("(1 + 2", "bad_input", "not closed"),
        ("1 + 2)", "bad_input", "')'"),
        ("2(3 + 4)", "bad_input", "operator between '2' and '('"),
        ("1 2", "bad_input", "operator between"),
        ("2..3", "bad_input", "operator between"),
        ("1,234 * 2", "bad_input", "without commas"),
        ("x + 1", "bad_input", "'x'"),
        ("pi", "bad_input", "'pi'"),
        ("sqrt", "bad_input", "too early"),
        ("abs 3", "bad_input", "abs(2)"),
        ("2 & 3", "bad_input", "'&'"),
        ("1/0", "undefined", "division by zero"),
        ("1 // 0", "undefined", "division by zero"),
        ("5 % (1 - 1)", "undefined", "division by zero"),
        ("0 ^ -1", "undefined", "division by zero"),
        ("sqrt(-1)", "undefined", "square root"),
        ("2 ^ 0.3", "undefined", "whole exponents"),
        ("2.5!", "undefined", "factorial"),
        ("1e99999999", "too_large", "1,000 digits"),
        ("10 ^ 1001", "too_large", "1,000 digits"),
        ("(10 ^ 900) ^ 900", "too_large", "1,000 digits"),
        ("450!", "too_large", "1,000 digits"),
    ],
)
def test_a_mistake_is_answered_with_advice(expression: str, reason: str, word: str) -> None:
    with pytest.raises(ServersError) as caught:
        evaluate(expression)
    assert caught.value.reason == reason
    assert word in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "9^9^9^9^9",
        "sqrt(2)^9^9^9",
        "999999999!",
        "9" * 2_000,
        "1e" + "9" * 900,
        "(" * 100_000,
        "(" * 400 + "1" + ")" * 400,
        "2^" * 400 + "2",
        "sqrt " * 150 + "2",
        "__import__('os').system('id')",
        "().__class__.__bases__",
        "lambda: 1",
        "1 if 1 else 2",
        "\x00",
        "٣ + ٤",
        "1_000",
        "a" * 1_000,
        "!" * 1_000,
        "%" * 1_000,
    ],
)
def test_a_hostile_expression_is_refused_within_half_a_second(expression: str) -> None:
    begin = time.thread_time()
    with pytest.raises(ServersError):
        evaluate(expression)
    assert time.thread_time() - begin < 0.5


def test_long_chains_without_nesting_are_no_matter_of_depth() -> None:
    assert evaluate("-" * (MAX_LENGTH - 1) + "1").text == "-1"
    assert evaluate("1" + "+1" * 499).text == "500"
    assert evaluate("(" * (MAX_DEPTH - 1) + "7" + ")" * (MAX_DEPTH - 1)).text == "7"


_OPERATIONS = {"+": Fraction.__add__, "-": Fraction.__sub__, "*": Fraction.__mul__, "/": Fraction.__truediv__}
_Tree = tuple[str, Fraction]
_LEAVES: st.SearchStrategy[_Tree] = st.decimals(0, 10_000, places=3, allow_nan=False).map(
    lambda number: (f"{number:f}", Fraction(number))
)


def _joined(parts: tuple[_Tree, str, _Tree]) -> _Tree:
    (left, a), operator, (right, b) = parts
    if operator == "/" and b == 0:
        operator = "+"
    return f"({left} {operator} {right})", _OPERATIONS[operator](a, b)


@settings(deadline=None)
@given(
    st.recursive(
        _LEAVES, lambda below: st.tuples(below, st.sampled_from("+-*/"), below).map(_joined), max_leaves=12
    )
)
def test_it_agrees_with_exact_fractions(tree: _Tree) -> None:
    text, expected = tree
    assert compute(text).number == expected


@settings(deadline=None)
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=8), st.data())
def test_it_agrees_with_python_on_precedence(numbers: list[int], data: st.DataObject) -> None:
    signs = [data.draw(st.sampled_from(["+", "-", "*"])) for _ in numbers[1:]]
    text = str(numbers[0]) + "".join(f" {sign} {n}" for sign, n in zip(signs, numbers[1:], strict=True))
    assert compute(text).number == eval(text)  # the text is of our own making


@settings(deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="0123456789+-*/%^()!. exsqrtof", max_size=60))
def test_any_text_gives_a_result_or_this_packages_error(text: str) -> None:
    try:
        result = evaluate(text)
    except ServersError:
        return
    assert result.text


@settings(deadline=None)
@given(st.fractions())
def test_a_decimal_that_ends_is_the_number_and_a_rounded_one_is_near(number: Fraction) -> None:
    plain = exact_text(number)
    if plain is not None:
        assert Fraction(plain) == number
    about = Fraction(rounded_text(number))
    assert abs(about - number) <= max(abs(number), Fraction(1)) / 1_000_000


@pytest.mark.parametrize("number", range(2, 400))
def test_whole_parts_of_what_comes_out_whole_after_roots_are_right(number: int) -> None:
    assert compute(f"floor(sqrt({number}) * sqrt({number}))").number == number
    assert compute(f"ceil(sqrt({number}) * sqrt({number}))").number == number
    assert compute(f"sqrt({number * number * number}) // sqrt({number})").number == number
    assert compute(f"(sqrt({2 * number * number}) / sqrt(2)) mod {number}").number == 0


def test_a_half_that_comes_out_of_roots_is_rounded_away_from_zero() -> None:
    assert compute("round(sqrt(5) * sqrt(5) / 2)").number == 3
    assert compute("round(-sqrt(5) * sqrt(5) / 2)").number == -3
    assert compute("round(sqrt(25 - 10^-30) / 2)").number == 2


def test_whole_parts_of_other_roots_are_not_rounded_up() -> None:
    assert compute("floor(sqrt(25 - 10^-30))").number == 4
    assert compute("ceil(sqrt(25 + 10^-30))").number == 6


@pytest.mark.parametrize("expression", ["0x10", "2 + 0XfF"])
def test_hexadecimal_is_refused_and_not_taken_for_a_product(expression: str) -> None:
    with pytest.raises(ServersError, match="decimal") as caught:
        evaluate(expression)
    assert caught.value.reason == "bad_input"


def test_x_between_numbers_is_times() -> None:
    assert evaluate("10x5").text == evaluate("10 x 5").text == "50"

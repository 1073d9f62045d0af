"""Numbers are compared as numbers, everything else as words."""

from __future__ import annotations

import pytest

from sage_cli.bench.words import amounts, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A red  star.", "a RED star"),
        ("twenty-one", "21"),
        ("two hundred", "200"),
        ("a hundred and five", "105"),
        ("one hundred and twenty-one thousand and five", "121,005"),
        ("2.5 million", "2500000"),
        ("$2 million", "$2,000,000"),
        ("1,000", "1000"),
        ("1\u202f000", "1000"),
        ("3.50", "3.5"),
        (".5", "0.5"),
        ("+5", "5"),
        ("\u22127", "-7"),
        ("minus seven", "-7"),
        ("-0", "0"),
        ("5\u20137", "5-7"),
        (">= 5", "\u2265 5"),
        ("- 5 apples", "5 apples"),
        ("COVID-19", "covid 19"),
        ("don\u2019t", "don't"),
        ("\u00bd", "1/2"),
        ("5 km", "5km"),
        ("five km", "5km"),
        ("12 PM", "12pm"),
        ("50 %", "50%"),
        ("50 percent", "50%"),
        ("Fifty percent.", "50 %"),
        ("00:00:20", "0:20"),
        ("At 00:20.", "at 0:20"),
        ("01:05:00.00", "1:05:00"),
        ("65:00", "1:05:00"),
    ],
)
def test_the_same(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-7", "7"),
        ("-5", "+5"),
        ("< 5", "> 5"),
        (">= 5", "> 5"),
        ("5", "> 5"),
        (".5", "5"),
        ("3.5", "35"),
        ("1.000", "1000"),
        ("C++", "C"),
        ("C#", "C"),
        ("A+", "A"),
        ("5 + 3", "5 - 3"),
        ("1/2", "12"),
        ("5%", "5"),
        ("5 percent", "5"),
        ("5 km", "5 m"),
        ("5 km 3", "5 km3"),
        ("0:20", "20"),
        ("0:20", "0:20:00"),
        ("0:20", "0:20.5"),
        ("16:9", "16:09"),
        ("a percent", "a%"),
        ("twenty one two", "212"),
        ("two hundred three hundred", "203 hundred"),
        ("two thousand and three million", "3002000"),
        ("\u2665", "\u2660"),
        ("\u2665", ""),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    assert words(one) != words(other)


def test_amounts() -> None:
    assert amounts("From -7 to 3.50 and $5, but > 9, in 2.5 million cars of 12:30") == ["-7", "3.5", "$5", ">9", "2500000"]

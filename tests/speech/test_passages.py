from __future__ import annotations

import pytest

from sage_cli.speech.passages import known, ranked

TALK = [
    "Welcome back to the garden club.",
    "We plant the tomatoes along the south wall, because it keeps them warm.",
    "Never water the beds at noon.",
    "Snails are a problem again, so I put copper tape around the pots.",
]


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("Where are the tomatoes planted?", 1),  # inflected otherwise than in the passage
        ("What helps against a snail?", 3),
        ("WHEN should one not water?", 2),
        ('NEAR("garden" OR * AND club) "', 0),  # words alone, no syntax of the search
    ],
)
def test_the_best_passage_shares_rare_words_with_the_question(question: str, best: int) -> None:
    assert ranked(TALK, question)[0] == best


def test_a_word_counts_more_than_its_beginning() -> None:
    assert ranked(["The carpet is red.", "The car is red."], "car") == [1, 0]


@pytest.mark.parametrize(
    ("passages", "question"),
    [
        (["今天天气很好。", "我们把西红柿种在南墙边。"], "西红柿种在哪里?"),
        (["寒いですね。", "トマトは南の壁に植えます。"], "トマトはどこですか"),
        (["Es regnet.", "Die Tomaten wachsen an der Südwand."], "Wo wächst die Tomate? An der SUDWAND?"),
        (["Холодно сегодня.", "Помидоры зреют на южной стене."], "Где растёт помидор?"),
    ],
)
def test_in_other_languages(passages: list[str], question: str) -> None:
    assert ranked(passages, question)[0] == 1


def test_halves_of_characters_and_long_questions_do_no_harm() -> None:
    """Regression: a question of thousands of words took minutes."""
    assert ranked([*TALK, "A tomato \ud83c."], "tomato \ud83c " + " ".join(f"word{number}" for number in range(5000)))[0] == 4


@pytest.mark.parametrize("question", ["", "?!", "Elephants"])
def test_nothing_in_common(question: str) -> None:
    assert ranked(TALK, question) == []


@pytest.mark.parametrize(
    ("passages", "question", "share"),
    [
        (TALK, "Where are the tomatoes? And the beds?", 4 / 6),
        (TALK, "Wo wachsen die Tomaten?", 0.0),
        (TALK, "西红柿种在哪里?", 0.0),
        (["我们把西红柿种在南墙边。"], "西红柿种在哪里?", 4 / 6),
        (TALK, "?!", 1.0),
    ],
)
def test_a_question_in_another_language_has_few_known_words(passages: list[str], question: str, share: float) -> None:
    assert known(passages, question) == pytest.approx(share)

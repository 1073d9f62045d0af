"""Replies in every wording: which option they name, or that they name none."""

from __future__ import annotations

import pytest

from sage_cli.bench.naming import named
from sage_cli.bench.options import letter

ANIMALS = ("cat", "dog", "blue dog", "18", "B vitamins", "Two")
COLOURS = ("red", "blue", "green", "dark green")
SHAPES = ("A red star", "A blue circle")
YES = ("Yes", "No")
TIMES = ("00:10", "00:20", "01:05:00")
PRICES = ("$5", "$50", "50", "$500")


def label(reply: str, options: tuple[str, ...], *, numbered: bool = False, denying: bool = False) -> str | None:
    place = named(reply, options, numbered=numbered, denying=denying)
    return None if place is None else letter(place)


@pytest.mark.parametrize(
    ("answer", "option"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(b)", "B"),
        ("**B**", "B"),
        ("[B]", "B"),
        ("b) dog", "B"),
        ("B - dog", "B"),
        ("B, because it barks", "B"),
        ("**(B) dog**", "B"),
        ("The answer is a dog.", "B"),
        ("The answer is A dog", "B"),
        ("The answer is A.", "A"),
        ("The answer is A because it purrs", "A"),
        ("Answer: b", "B"),
        ("option b", "B"),
        ("The answer is b", "B"),
        ("The answer is (B) dog, not a cat.", "B"),
        ("The correct choice is 'B'", "B"),
        ("Therefore, the correct option is (B).", "B"),
        ("is NOT listed is (B) dog. The others: cat, 18.", "B"),
        (r"\\boxed{B}", "B"),
        ("two", "F"),
        ("The number is 2.", "F"),
        ("2", "F"),
        ("The answer is E vitamins, I mean B vitamins", "E"),
        ("It is rich in B vitamins", "E"),
        ("A blue dog", "C"),
        ("I answer a question", None),
        ("(A) or (B)", None),
        ("A, B", None),
        ("I", None),
        ("G", None),
        ("I do not know", None),
    ],
)
def test_labels_words_and_articles(answer: str, option: str | None) -> None:
    assert label(answer, ANIMALS) == option


@pytest.mark.parametrize(
    ("reply", "option"),
    [
        # a label first, then reasons
        ("B\n\nExplanation: the red one comes later.", "B"),
        ("B.\nThe red one comes later.", "B"),
        ("B: blue, since red and green come later", "B"),
        ("**B**: the blue one. (A) comes later.", "B"),
        ("**B. blue**\n\nRed comes later.", "B"),
        ("`B`", "B"),
        ("> B", "B"),
        ("### B", "B"),
        ("- B", "B"),
        ("\uff22", "B"),
        ("\uff08B\uff09", "B"),
        ("B blue", "B"),
        ("B is the correct answer.", "B"),
        ("B is correct, A comes later", "B"),
        ("Blue is the right answer; red comes later.", "B"),
        ("B seems to be right", "B"),
        ("B because red comes later", "B"),
        ("B \u2014 red comes later", "B"),
        # stated
        ("**Answer:** B", "B"),
        ("**Answer: B**", "B"),
        ("Answer: **B**", "B"),
        ("**Final answer:** B", "B"),
        ("__Answer__: B", "B"),
        ("### Answer\nB", "B"),
        ("ANSWER: B", "B"),
        ('{"answer": "B", "confidence": 0.9}', "B"),
        ("<answer>B</answer>", "B"),
        ("<think>Red? (A)? No.</think>\n<answer>\n(B) blue\n</answer>", "B"),
        ("<think>The answer is A. No.</think>B", "B"),
        (r"So $\boxed{\text{B}}$", "B"),
        (r"\boxed{\mathbf{(B)}}", "B"),
        (r"\boxed{blue}", "B"),
        ("<|begin_of_box|>B<|end_of_box|>", "B"),
        ("I choose B", "B"),
        ("I'd go with (B).", "B"),
        ("I would say B.", "B"),
        ("I pick option B, blue.", "B"),
        ("My answer is B", "B"),
        ("the answer is (B)", "B"),
        ("The correct option is B: blue", "B"),
        ("So the answer must be B.", "B"),
        ("The answer is therefore B", "B"),
        ("The answer is most likely B.", "B"),
        ("The answer is blue, since red and green come later.", "B"),
        ("Correct: B", "B"),
        ("=> B", "B"),
        ("Option B", "B"),
        ("Option B is correct. Option A comes later.", "B"),
        ("Choice (B)", "B"),
        ("It is B.", "B"),
        ("It's B", "B"),
        ("Definitely B!", "B"),
        ("B) text", "B"),
        ("Let's see. A: too late. B: early.\nFinal answer: B", "B"),
        ("At first the answer is A. Later more is seen. Final answer: B.", "B"),
        ("A. red - incorrect\nB. blue - correct\nC. green - incorrect", "B"),
        ("(A) is wrong, (C) is wrong. So (B).", "B"),
        ("A is wrong. B.", "B"),
        ("Red (A), wait, no. It is (B).", "B"),
        ("Die Antwort ist B", "B"),
        ("La respuesta es B.", "B"),
        ("\u7b54\u6848\u662fB", "B"),
        ("\u6b63\u786e\u7b54\u6848\u662f(B)\u3002", "B"),
        ("B \u304c\u6b63\u89e3\u3067\u3059", "B"),
        ("\u9078\u629e\u80a2B\u3067\u3059", "B"),
        ("answer: b)", "B"),
        ("B; A and C are wrong", "B"),
        ("B \u274c, C \u2705", "C"),
        ("Each option:\nA) red - later\nB) blue - first\nC) green - never\n\nTherefore, B.", "B"),
        ("A) red - later\nB) blue - first\nTherefore, B.", "B"),
        ("The best answer is **B. blue**.\n\n- A (red) appears later\n- C (green) never appears", "B"),
        ("Between A and B, I choose B.", "B"),
        ("The answer is not A, B or C. It is D.", "D"),
        ("Not A, not C, not D, so B.", "B"),
        ('{"option": "B", "reason": "A is later"}', "B"),
        ("B (see 00:01)", "B"),
        ("Correct answer: B. Incorrect: A", "B"),
        ("Explanation: red comes later.\n\n**B**", "B"),
        # words
        ("Blue.", "B"),
        ("The colour is blue!", "B"),
        ("It is dark green.", "D"),
        ("It is green, not red.", "C"),
        # denials
        ("It is not blue.", None),
        ("It isn't blue", None),
        ("It isn\u2019t blue", None),
        ("not blue", None),
        ("Not B", None),
        ("Not (B).", None),
        ("I don't think it is blue", None),
        ("I do not believe that the colour is blue.", None),
        ("Blue is not correct.", None),
        ("B is wrong", None),
        ("B is incorrect.", None),
        ("B isn't the answer", None),
        ("B is not the answer", None),
        ("The answer is not B.", None),
        ("The answer isn't B", None),
        ("(B) can be ruled out", None),
        ("neither A nor B", None),
        ("Neither red nor blue.", None),
        ("none of the above", None),
        ("All but C", None),
        ("All of them except blue", None),
        ("anything but B", None),
        ("Everything other than blue", None),
        ("There is no blue", None),
        ("It never turns blue", None),
        ("Es ist nicht blue", None),
        ("I cannot say whether it is blue", None),
        ("It is unlikely to be blue", None),
        ("It is hardly blue", None),
        ("N/A", None),
        ("It is far from blue", None),
        ("There's no way it's blue", None),
        ("B: false", None),
        ("Answer: not B", None),
        ("Not A, not C, not D.", None),
        ("It is not B, it is A.", "A"),
        ("Not B but C", "C"),
        ("It is not blue but red.", "A"),
        ("It is red, not blue.", "A"),
        ("It isn't blue; it's red.", "A"),
        ("red rather than blue", "A"),
        ("A, not B", "A"),
        ("A instead of B", "A"),
        ("B is not right. The answer is A.", "A"),
        ("None other than B", "B"),
        ("It can be nothing but blue", "B"),
        ("It is B, no doubt", "B"),
        ("There is no doubt that the answer is B", "B"),
        ("I have no doubt it's B", "B"),
        ("Without doubt B", "B"),
        ("Beyond a reasonable doubt, it is blue", "B"),
        ("I don\u2019t doubt that it is blue", "B"),
        ("There is no question that it is B", "B"),
        ("There is no doubt that it is not B", None),
        ("I doubt that it's B", None),
        ("It is doubtful that it is B", None),
        ("No, it's B", "B"),
        ("I'm not sure, but it is B", "B"),
        ("The colour that is not in the picture is B", "B"),
        # several
        ("A or B", None),
        ("Either A or B.", None),
        ("The answer is A or B", None),
        ("red or blue", None),
        ("A and B", None),
        ("(A) red\n(B) blue\n(C) green\n(D) dark green", None),
        ("A/B", None),
        ("Both (A) and (B)", None),
        ("Option A, or option B", None),
        ("Red is seen, and blue is seen.", None),
        ("It is not only blue but also red", None),
        ("The answer is A. The answer is B.", None),
        (r"\boxed{A} or \boxed{B}", None),
        # words that are no labels
        ("A colour", None),
        ("I see a colour", None),
        ("They see apple(s)", None),
        ("Plan B was made", None),
        ("The B side is shown.", None),
        ("", None),
        ("Z", None),
        # said twice
        ("It is not B. It might be B.", None),
        ("It is not blue. Blue comes later.", None),
        ("At first B is not shown. The answer is B.", "B"),
        ("The answer is A. The answer is B. It shows blue.", None),
        ("Blue or B", "B"),
        # in other places
        ("The incorrect option is B.", None),
        ("f(B) is shown", None),
        ("It shows red first. Therefore (B).", "B"),
        ("A. red\nB. blue", None),
    ],
)
def test_replies(reply: str, option: str | None) -> None:
    assert label(reply, COLOURS) == option


@pytest.mark.parametrize(
    ("reply", "options", "option"),
    [
        ("The blue circle appears first.", SHAPES, "B"),
        ("A red star.", SHAPES, "A"),
        ("A blue circle, not a red star", SHAPES, "B"),
        ("It's a red star", SHAPES, "A"),
        ("No, he does not.", YES, "B"),
        ("Yes, he does not leave.", YES, "A"),
        ("No.", YES, "B"),
        ("No, it isn't.", YES, "B"),
        ("The answer is no", YES, "B"),
        ("No doubt, yes.", YES, "A"),
        ("It costs $50.", PRICES, "B"),
        ("$50", PRICES, "B"),
        (r"It is \$500, not \$50.", PRICES, "D"),
        ("$1,000", ("$100", "$1000"), "B"),
        ("50", PRICES, "C"),
        ("$5 or $50", PRICES, None),
        ("$50$", PRICES, "C"),
        ("It is $50$, or so", ("40", "50"), "B"),
        (r"$\frac{1}{2}$", (r"$\frac{1}{4}$", r"$\frac{1}{2}$"), "B"),
        ("> 5", ("5", "< 5", "> 5"), "C"),
        ("< 5", ("> 5", "< 5", "= 5"), "B"),
        ("The number is > 5", ("5", "< 5", "> 5"), "C"),
        ("> 5", ("4", "5"), "B"),
        ("- 5", ("4", "5"), "B"),
        ("C++", ("Java", "C++", "Go"), "B"),
        ("It is about 20 %.", ("10%", "20%"), "B"),
        ("It is twenty percent.", ("10%", "20%"), "B"),
        ("20km", ("10 km", "20 km"), "B"),
        ("Yes. There is no doubt.", YES, "A"),
        ("It's 5, not 3", ("3", "5"), "B"),
        ("not blue", ("blue", "not blue"), "B"),
        ("It is not blue.", ("blue", "not blue"), "B"),
        ("It is not blue, so not blue.", ("blue", "not blue"), "B"),
        ("-7", ("7", "-7"), "B"),
        ("It shows 7.0", ("7", "-7"), "A"),
        ("two hundred", ("100", "200"), "B"),
        ("C++", ("C", "C++"), "B"),
        ("Both red and blue", ("red", "blue", "Both red and blue"), "C"),
        ("more than 5", ("3", "5"), None),
        ("There are no stars", YES, None),
        ("0:20", TIMES, "B"),
        ("It happens at 00:00:20.", TIMES, "B"),
        ("It is 1:05:00, not 0:20", TIMES, "C"),
        ("0:21", TIMES, None),
    ],
)
def test_words_of_options(reply: str, options: tuple[str, ...], option: str | None) -> None:
    assert label(reply, options) == option


@pytest.mark.parametrize(
    ("reply", "option"),
    [
        ("Blue is not shown.", "B"),
        ("The video does not show blue", "B"),
        ("There is no blue", "B"),
        ("B is not shown", "B"),
        ("Not B", None),
        ("B is not the answer", None),
        ("red and blue are not shown", None),
    ],
)
def test_questions_about_what_is_not_so(reply: str, option: str | None) -> None:
    assert label(reply, COLOURS, denying=True) == option


@pytest.mark.parametrize(
    ("reply", "option"),
    [
        ("2", "B"),
        ("(2) blue", "B"),
        ("2. blue", "B"),
        ("Option 2", "B"),
        ("The answer is 2.", "B"),
        ("2\n\nRed comes later.", "B"),
        ("Not 2", None),
        ("1 or 2", None),
        ("After 2 seconds", None),
        ("9", None),
    ],
)
def test_numbers_as_labels(reply: str, option: str | None) -> None:
    assert label(reply, COLOURS, numbered=True) == option


def test_amounts_are_no_labels() -> None:
    assert label("$2", ("$2", "$1"), numbered=True) == "A"
    assert label("The price is $2", ("$2", "$1"), numbered=True) == "A"
    assert label("> 2", ("> 2", "< 2"), numbered=True) == "A"
    assert label("> 2", ("red", "blue"), numbered=True) == "B"


def test_numbers_are_no_letters() -> None:
    assert label("2", ("two red", "two blue")) is None


@pytest.mark.parametrize(
    "reply",
    [
        "A," + "  or" * 100 + " x B",  # took longer than the universe
        *("A " * 200_000, "no blue " * 200_000, "\\" * 200_000, "<answer>" + "\n" * 200_000 + "x", "<|begin_of_box|>" * 200_000),
        *("=" * 200_000 + " A", "A" + ": " * 200_000, "- " * 200_000),
    ],
)
def test_a_reply_of_any_length_is_read(reply: str) -> None:
    label(reply, COLOURS)


def test_of_a_long_reply_the_end_is_read() -> None:
    assert label("It is red. " * 5_000 + "The answer is B.", COLOURS) == "B"


def test_the_longest_of_mentions_in_each_other_counts() -> None:
    options = ("blue", "a blue dog", "dog")
    assert [label(reply, options) for reply in ("It is a blue dog.", "It is blue.", "It is a dog.", "A dog that is blue")] == [*"BAC", None]

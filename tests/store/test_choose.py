"""File selection for the usual layouts of repositories.

The listings below follow the real repositories' (names and quantizations as their authors use them; sizes in MB, rounded).
"""

from __future__ import annotations

import pytest

from sage_cli.errors import ModelError, UsageError
from sage_cli.store.catalogue import Reference, catalogue, parse
from sage_cli.store.choose import Choice, RemoteFile, choose_single, choose_vision, quantization_of

MB = 1_000_000


def listing(text: str) -> list[RemoteFile]:
    rows = (line.split() for line in text.strip().splitlines())
    return [RemoteFile(path, int(size) * MB, "0" * 64) for path, size in rows]


QWEN = listing("""
    .gitattributes                            0
    README.md                                 0
    Qwen3VL-8B-Instruct-F16.gguf          16388
    Qwen3VL-8B-Instruct-Q4_K_M.gguf        5028
    Qwen3VL-8B-Instruct-Q8_0.gguf          8710
    mmproj-Qwen3VL-8B-Instruct-F16.gguf    1159
    mmproj-Qwen3VL-8B-Instruct-Q8_0.gguf    752
""")
MRADERMACHER = listing("""
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.IQ4_XS.gguf       4250
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q2_K.gguf         3016
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q3_K_L.gguf       4088
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q3_K_M.gguf       3808
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q3_K_S.gguf       3492
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q4_K_M.gguf       4683
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q4_K_S.gguf       4458
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q5_K_M.gguf       5445
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q5_K_S.gguf       5315
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q6_K.gguf         6254
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q8_0.gguf         8099
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.f16.gguf         15237
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.mmproj-Q8_0.gguf   853
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.mmproj-f16.gguf   1354
""")
IMATRIX = listing("""
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.imatrix.gguf         5
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.i1-IQ2_M.gguf     2780
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.i1-Q4_0.gguf      4444
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.i1-Q4_K_M.gguf    4683
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.i1-Q6_K.gguf      6254
    mmproj-model-f16.gguf                          1354
""")
UNSLOTH = listing("""
    BF16/Qwen3-VL-8B-Instruct-BF16-00001-of-00002.gguf  9000
    BF16/Qwen3-VL-8B-Instruct-BF16-00002-of-00002.gguf  7389
    Qwen3-VL-8B-Instruct-IQ4_NL.gguf                    4794
    Qwen3-VL-8B-Instruct-Q8_0.gguf                      8710
    Qwen3-VL-8B-Instruct-UD-Q4_K_XL.gguf                5149
    Qwen3-VL-8B-Instruct-UD-Q8_K_XL.gguf               10800
    imatrix_unsloth.gguf                                   5
    mmproj-BF16.gguf                                    1162
    mmproj-F16.gguf                                     1159
    mmproj-F32.gguf                                     2306
""")
BARTOWSKI = listing("""
    Qwen_Qwen3-VL-4B-Instruct-Q4_K_L.gguf      2700
    Qwen_Qwen3-VL-4B-Instruct-Q4_K_M.gguf      2497
    Qwen_Qwen3-VL-4B-Instruct-bf16.gguf        8050
    Qwen_Qwen3-VL-4B-Instruct-imatrix.gguf        4
    mmproj-Qwen_Qwen3-VL-4B-Instruct-bf16.gguf  839
    mmproj-Qwen_Qwen3-VL-4B-Instruct-f16.gguf   836
""")
PRITHIV = listing("""
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.BF16.gguf            15237
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q8_0.gguf             8099
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.mmproj-bf16.gguf      1357
    SAGE-MM-Qwen2.5-VL-7B-SFT_RL.mmproj-q8_0.gguf       853
""")
WHISPER = listing("""
    ggml-base-encoder.mlmodelc.zip  38
    ggml-base-q5_1.bin    60
    ggml-base-q8_0.bin    82
    ggml-base.bin        148
    ggml-base.en-q5_1.bin 60
    ggml-base.en.bin     148
    ggml-large-v3-q5_0.bin       1081
    ggml-large-v3-turbo-q5_0.bin  574
    ggml-large-v3-turbo.bin      1625
    ggml-large-v3.bin            3095
    ggml-small.en-tdrz.bin        488
    ggml-small.en.bin             488
""")
SILERO = listing("""
    ggml-silero-v5.1.2.bin  1
    ggml-silero-v6.2.0.bin  1
    ggml-silero-v6.10.0.bin 1
""")


def names(choice: Choice) -> list[str]:
    return [file.path for file in choice.files]


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (QWEN, ["Qwen3VL-8B-Instruct-Q4_K_M.gguf", "mmproj-Qwen3VL-8B-Instruct-F16.gguf"]),
        (MRADERMACHER, ["SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q4_K_M.gguf", "SAGE-MM-Qwen2.5-VL-7B-SFT_RL.mmproj-f16.gguf"]),
        (IMATRIX, ["SAGE-MM-Qwen2.5-VL-7B-SFT_RL.i1-Q4_K_M.gguf", "mmproj-model-f16.gguf"]),
        (UNSLOTH, ["Qwen3-VL-8B-Instruct-UD-Q4_K_XL.gguf", "mmproj-F16.gguf"]),
        (BARTOWSKI, ["Qwen_Qwen3-VL-4B-Instruct-Q4_K_M.gguf", "mmproj-Qwen_Qwen3-VL-4B-Instruct-f16.gguf"]),
        (PRITHIV, ["SAGE-MM-Qwen2.5-VL-7B-SFT_RL.Q8_0.gguf", "SAGE-MM-Qwen2.5-VL-7B-SFT_RL.mmproj-bf16.gguf"]),
    ],
)
def test_the_pair_is_found(files: list[RemoteFile], chosen: list[str]) -> None:
    choice = choose_vision(files, repository="a/b")
    assert names(choice) == chosen
    assert choice.fits


@pytest.mark.parametrize(
    ("files", "room", "quantization", "fits"),
    [
        (MRADERMACHER, 99999, "Q4_K_M", True),
        (MRADERMACHER, 5850, "Q4_K_S", True),
        (MRADERMACHER, 5700, "IQ4_XS", True),
        (MRADERMACHER, 5000, "Q3_K_S", True),
        (MRADERMACHER, 5200, "Q3_K_M", True),
        (MRADERMACHER, 4371, "Q2_K", True),
        (MRADERMACHER, 1000, "Q2_K", False),
        (QWEN, 3000, "Q4_K_M", False),
        (UNSLOTH, 99999, "UD-Q4_K_XL", True),
    ],
)
def test_what_fits_is_taken(files: list[RemoteFile], room: int, quantization: str, fits: bool) -> None:
    choice = choose_vision(files, repository="a/b", room=room * MB)
    assert (choice.quantization, choice.fits) == (quantization, fits)


def test_a_quantization_can_be_asked_for() -> None:
    assert names(choose_vision(QWEN, repository="a/b", quantization="q8_0", room=1))[0] == "Qwen3VL-8B-Instruct-Q8_0.gguf"
    assert choose_vision(UNSLOTH, repository="a/b", quantization="Q4_K_XL").quantization == "UD-Q4_K_XL"
    with pytest.raises(ModelError, match=r"a/b has no Q5_K_M: it has Q4_K_M, Q8_0, F16"):
        choose_vision(QWEN, repository="a/b", quantization="Q5_K_M")


def test_a_preference_is_no_demand() -> None:
    assert choose_vision(QWEN, repository="a/b", preferred="Q8_0").quantization == "Q8_0"
    assert choose_vision(QWEN, repository="a/b", preferred="Q8_0", room=8000 * MB).quantization == "Q4_K_M"
    assert choose_vision(QWEN, repository="a/b", preferred="Q6_K").quantization == "Q4_K_M"


def test_shards_come_together_or_not_at_all() -> None:
    choice = choose_vision(UNSLOTH, repository="a/b", quantization="BF16")
    assert names(choice)[:2] == [f"BF16/Qwen3-VL-8B-Instruct-BF16-0000{n}-of-00002.gguf" for n in (1, 2)]
    assert choice.size == (9000 + 7389 + 1159) * MB
    with pytest.raises(ModelError, match="has no BF16"):
        choose_vision([file for file in UNSLOTH if "00002-of" not in file.path], repository="a/b", quantization="BF16")


def test_a_part_is_missing() -> None:
    with pytest.raises(ModelError, match=r"a/b holds no vision encoder"):
        choose_vision([file for file in QWEN if "mmproj" not in file.path], repository="a/b")
    with pytest.raises(ModelError, match=r"a/b contains no GGUF language model"):
        choose_vision(WHISPER, repository="a/b")


def test_one_file_of_many() -> None:
    assert names(choose_single(WHISPER, "ggml-base", repository="a/b")) == ["ggml-base.bin"]
    assert names(choose_single(WHISPER, "ggml-base.en", repository="a/b")) == ["ggml-base.en.bin"]
    assert names(choose_single(WHISPER, "ggml-large-v3", repository="a/b")) == ["ggml-large-v3.bin"]
    assert names(choose_single(WHISPER, "ggml-large-v3-turbo", repository="a/b", quantization="Q5_0")) == ["ggml-large-v3-turbo-q5_0.bin"]
    assert names(choose_single(SILERO, "ggml-silero", repository="a/b")) == ["ggml-silero-v6.10.0.bin"]
    with pytest.raises(ModelError, match=r"holds no ggml-base\*\.bin as Q4_0: it has ggml-base-q5_1\.bin, ggml-base-q8_0\.bin"):
        choose_single(WHISPER, "ggml-base", repository="a/b", quantization="Q4_0")
    with pytest.raises(ModelError, match=r"a/b holds no ggml-tiny\*\.bin$"):
        choose_single(WHISPER, "ggml-tiny", repository="a/b")


@pytest.mark.parametrize(
    ("stem", "quantization"),
    [
        ("Qwen3VL-4B-Instruct-Q4_K_M", "Q4_K_M"),
        ("SAGE-MM-Qwen2.5-VL-7B-SFT_RL.i1-IQ3_XXS", "IQ3_XXS"),
        ("model-00001-of-00003", ""),
        ("Qwen3-VL-30B-BF16-00001-of-00002", "BF16"),
        ("qwen2.5-vl-3b-instruct-q8_0", "Q8_0"),
        ("Qwen3-VL-4B", ""),
    ],
)
def test_the_name_tells_the_quantization(stem: str, quantization: str) -> None:
    assert quantization_of(stem) == quantization


# ---- names ---------------------------------------------------------------------------------------------------------


def test_the_catalogue_is_whole() -> None:
    kinds = {entry.kind for entry in catalogue().values()}
    assert kinds == {"vision", "speech"}
    for entry in catalogue().values():
        assert entry.about
        assert entry.repositories or entry.checkpoint
        assert bool(entry.match) == (entry.kind != "vision")
        assert (entry.kv > 0) == (entry.kind == "vision")


@pytest.mark.parametrize(
    ("text", "name", "repositories", "quantization"),
    [
        ("qwen3-vl-4b", "qwen3-vl-4b", ("Qwen/Qwen3-VL-4B-Instruct-GGUF", "unsloth/Qwen3-VL-4B-Instruct-GGUF"), None),
        ("qwen3-vl-4b:Q8_0", "qwen3-vl-4b-Q8_0", ("Qwen/Qwen3-VL-4B-Instruct-GGUF", "unsloth/Qwen3-VL-4B-Instruct-GGUF"), "Q8_0"),
        ("hf:bob/Some-GGUF", "bob--Some-GGUF", ("bob/Some-GGUF",), None),
        ("hf:bob/Some-GGUF:Q6_K", "bob--Some-GGUF-Q6_K", ("bob/Some-GGUF",), "Q6_K"),
    ],
)
def test_names_and_repositories(text: str, name: str, repositories: tuple[str, ...], quantization: str | None) -> None:
    reference: Reference = parse(text)
    assert (reference.name, reference.repositories, reference.quantization) == (name, repositories, quantization)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("qwen3-vl-4", r"no such model: qwen3-vl-4; did you mean qwen3-vl-4b\?"),
        ("zzz", "'sage models list' shows all, hf:OWNER/REPO names any other"),
        ("hf:bob", "hf:bob is not a repository"),
        ("hf:bob/x/y", "is not a repository"),
        ("hf:../x", "is not a repository"),
    ],
)
def test_what_is_no_name(text: str, said: str) -> None:
    with pytest.raises((UsageError, ModelError), match=said):
        parse(text)

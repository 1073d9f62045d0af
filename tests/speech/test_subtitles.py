from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from unicodedata import normalize

import av
import numpy as np
import pytest

from sage_cli.errors import VideoError
from sage_cli.output import folded
from sage_cli.speech.subtitles import beside, files_beside, find_subtitles, lacking, tracks
from sage_cli.video import Video

SRT = """1
00:00:00,500 --> 00:00:01,250
- Good <i>morning</i>.

2
00:00:01,500 --> 00:00:02,000
[music]

3
00:00:02,000 --> 00:00:03,500
The train is late,
as ever.
"""

HEADER = b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n"
ASS_HEAD = f"{HEADER.decode()}\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
ASS = "Dialogue: 0,0:00:0{0:.2f},0:00:04.00,Default,,0,0,0,,{1}\n"


def _cues(path: Path) -> list[tuple[float, float, str]]:
    found = find_subtitles(Video(path))
    assert found
    return [(one.start, one.end, one.text) for one in found.cues]


@pytest.fixture
def video(tmp_path: Path, clip_path: Path) -> Path:
    path = tmp_path / "talk.mp4"
    path.write_bytes(clip_path.read_bytes())
    return path


def _write(video: Path, cues: list[tuple[float, float, str]]) -> None:
    """SubRip beside a video; times in seconds."""
    clock = [f"00:00:{start:06.3f} --> 00:00:{end:06.3f}".replace(".", ",") for start, end, _ in cues]
    video.with_suffix(".srt").write_text("\n".join(f"{time}\n{text}\n" for time, (*_, text) in zip(clock, cues, strict=True)), "utf-8")


def _with_track(path: Path, codec: str, cues: Sequence[tuple[int, int, str | bytes]], *, language: str = "ger", delay: int = 0) -> Path:
    """A video with a text track; times in milliseconds."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        text = container.add_stream(codec)
        text.time_base = Fraction(1, 1000)
        text.codec_context.subtitle_header = HEADER  # encoders ask for one
        text.metadata["language"] = language
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 5, np.uint8), format="rgb24")
            frame.pts = number + delay // 100
            container.mux(picture.encode(frame))
        container.mux(picture.encode())
        for start, end, line in cues:
            packet = av.Packet(line.encode() if isinstance(line, str) else line)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = start + delay
            packet.duration = end - start
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".srt", SRT),
        (
            ".vtt",
            "WEBVTT\n\n00:00.500 --> 00:01.250\nGood <b>morning</b>.\n\n00:02.000 --> 00:03.500\nThe train is late,\nas ever.\n",
        ),
        (
            ".ass",
            "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
            "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
            "Dialogue: 0,0:00:00.50,0:00:01.25,Default,,0,0,0,,{\\i1}Good morning.\n"
            "Comment: 0,0:00:01.30,0:00:01.40,Default,,0,0,0,,nobody says this\n"
            "Dialogue: 0,0:00:02.00,0:00:03.50,Default,,0,0,0,,The train is late,\\Nas ever.\n",
        ),
    ],
)
def test_files_beside_a_video(video: Path, suffix: str, text: str) -> None:
    video.with_suffix(suffix).write_text(text)
    assert _cues(video) == [(0.5, 1.25, "Good morning."), (2.0, 3.5, "The train is late, as ever.")]


def _ignore_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: folded(path.name) in {folded(entry.name) for entry in path.parent.iterdir()})


def test_a_name_that_the_file_system_spells_in_another_way(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS composes accents or not, and finds files in any letter case."""
    composed, apart = (video.with_name(f"{normalize(form, 'Café')}.mp4") for form in ("NFC", "NFD"))
    video.rename(composed)
    apart.with_suffix(".srt").write_text("1\n00:00:00,500 --> 00:00:01,250\nGood morning.\n")
    assert _cues(composed) == [(0.5, 1.25, "Good morning.")]
    assert not files_beside(composed.with_name("CAFÉ.mp4"))
    _ignore_case(monkeypatch)
    assert [one.source for one in beside(composed.with_name("CAFÉ.mp4"))] == [apart.with_suffix(".srt").name]


def test_subtitles_in_other_letter_case(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system finds them by the video's letters, too, and only there."""
    for name in "TALK.SRT", "TALK.En.srt", "TALKS.srt":
        video.with_name(name).write_text("1\n00:00:00,500 --> 00:00:01,250\nGood morning.\n")
    talk = video.rename(video.with_name("Talk.mp4"))
    assert not files_beside(talk)
    _ignore_case(monkeypatch)
    assert [(one.source, one.language) for one in beside(talk)] == [("TALK.SRT", ""), ("TALK.En.srt", "en")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_whatever_the_encoding(video: Path, encoding: str) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nDie Tür ist größer als früher, sagte Jörg über die Brücke.\n"
    video.with_suffix(".srt").write_bytes(text.encode(encoding))
    assert _cues(video) == [(1.0, 2.0, "Die Tür ist größer als früher, sagte Jörg über die Brücke.")]


@pytest.mark.parametrize(("name", "language"), [("talk.lt.srt", ""), ("talk.srt", "lt"), ("talk.lt-LT.sdh.srt", "auto")])
def test_the_language_of_a_file_tells_its_encoding(video: Path, name: str, language: str) -> None:
    """In Windows-1252 the same bytes are Icelandic letters."""
    text = "Ačiū, man viskas gerai. Aš tavęs nesuprantu, žmogau."
    (video.parent / name).write_bytes(f"00:00:01,000 --> 00:00:02,000\n{text}\n".encode("cp1257"))
    found = find_subtitles(Video(video), language)
    assert found
    assert found.cues[0].text == text


@pytest.mark.parametrize(
    ("suffix", "written", "read"),
    [
        (".srt", "5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
        (".srt", "{\\an8}<b>x < y</b> & z {braces} a > b\n42", "x < y & z {braces} a > b 42"),
        (".srt", '<font color="red">R&amp;D</font><br/>C:\\new', "R&D C:\\new"),
        (".vtt", "<c.loud>Hi &amp; welcome,</c> <00:00:01.500><c>A&nbsp;&lt;B&gt; < C</c>\n7", "Hi & welcome, A <B> < C 7"),
    ],
)
def test_only_markup_is_left_out(video: Path, suffix: str, written: str, read: str) -> None:
    point = "," if suffix == ".srt" else "."
    head = "WEBVTT\n\nNOTE not said\n\n" if suffix == ".vtt" else ""
    cues = [f"{n}\n00:00:0{n}{point}000 --> 00:00:0{n + 1}{point}000\n{text}\n" for n, text in ((1, written), (3, "End."))]
    video.with_suffix(suffix).write_text(head + "\n".join(cues))
    assert _cues(video) == [(1.0, 2.0, read), (3.0, 4.0, "End.")]


def test_tags_in_a_track_are_left_out_as_in_a_file(tmp_path: Path) -> None:
    path = _with_track(tmp_path / "a.mkv", "subrip", [(0, 900, "<b>x < y</b> &amp; {z}")])
    assert [text for *_, text in _cues(path)] == ["x < y & {z}"]


def test_cues_that_overlap_end_where_the_next_begins(video: Path) -> None:
    spans = [(1, 5, "Ann speaks."), (3, 6, "So does Bob."), (3, 7, "And Cy."), (3, 4, "And Cy."), (9, 9, "Nobody.")]
    cues = [f"{n}\n00:00:0{a},000 --> 00:00:0{b},000\n{text}\n" for n, (a, b, text) in enumerate(spans, 1)]
    video.with_suffix(".srt").write_text("\n".join(cues))
    assert _cues(video) == [(1.0, 3.0, "Ann speaks."), (3.0, 7.0, "And Cy. So does Bob.")]


TTML = (
    '<?xml version="1.0" encoding="UTF-8"?><tt xmlns="{namespace}" xmlns:ttp="{namespace}#parameter" {rates}>'
    '<body begin="1s"><div><p begin="{begin}" {end}>The <span>train</span>\n is<br/>late.</p></div></body></tt>'
)


@pytest.mark.parametrize(
    ("rates", "begin", "end"),
    [
        ("", "00:00:00.5", 'end="00:00:01.5"'),
        ('ttp:frameRate="24" ttp:frameRateMultiplier="1000 1001"', "00:00:00:12", 'end="36f"'),
        ('ttp:tickRate="10000000"', "5000000t", 'dur="10000000t"'),
    ],
)
@pytest.mark.parametrize("namespace", ["http://www.w3.org/ns/ttml", "http://www.w3.org/2006/10/ttaf1"])
def test_timed_text_counts_in_seconds_frames_or_ticks(video: Path, rates: str, begin: str, end: str, namespace: str) -> None:
    video.with_suffix(".ttml").write_text(TTML.format(namespace=namespace, rates=rates, begin=begin, end=end))
    ((start, ended, text),) = _cues(video)
    assert (round(start, 2), round(ended, 2), text) == (1.5, 2.5, "The train is late.")


def test_times_of_spans_count_from_their_paragraph_and_unknown_ones_are_refused(video: Path) -> None:
    body = '<p{}><span begin="1s" end="2s">One.</span> <span begin="2s" end="3s">Two.</span></p>'
    whole = '<tt xmlns="http://www.w3.org/ns/ttml"><body><div>{}</div></body></tt>'
    path = video.with_suffix(".ttml")
    path.write_text(whole.format(body.format("")))
    assert _cues(video) == [(1.0, 2.0, "One."), (2.0, 3.0, "Two.")]
    late = whole.format(f'<p begin="{"9" * 5000}:00:00" end="{"9" * 5000}:00:01">One.</p>')
    deep = whole.format("<div>" * 1200 + body.format("") + "</div>" * 1200)
    for broken in (whole.format(body.format(' begin="soon"')), whole.format(body.format(' timeContainer="seq"')), "<tt><body>", deep, late):
        path.write_text(broken)
        assert find_subtitles(Video(video)) is None


def test_subtitles_of_another_version_are_told(video: Path) -> None:
    told: list[str] = []
    for seconds in (2, 30):
        video.with_suffix(".srt").write_text(f"1\n00:00:{seconds:02d},000 --> 00:00:{seconds + 9:02d},000\nThe train is late.\n")
        found = find_subtitles(Video(video), tell=told.append)
        assert found is not None
    assert [line.partition(" at ")[0] for line in told] == [f"{video.stem}.srt goes on after the end of the video,"]
    assert told[0].endswith("(1 of 1 subtitles are left out)")


def test_a_choice_of_languages_is_told(video: Path, tmp_path: Path) -> None:
    def told(language: str = "auto") -> str:
        found = find_subtitles(Video(video), language)
        assert found is not None
        return str(found.choice or "")

    for name in ("talk.de.srt", "talk.de.vtt", "talk.de.sdh.srt", "talk.fr.forced.srt"):
        (video.parent / name).write_text(SRT if name.endswith("srt") else "WEBVTT\n\n00:01.000 --> 00:02.000\nHallo\n")
    assert told() == ""
    (video.parent / "talk.en.srt").write_text(SRT)
    (video.parent / "talk.en.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n")
    assert told() == "talk.de.srt is used, not talk.en.srt; to change that, set SAGE_LANGUAGE=en"
    assert told("de") == told("en") == ""
    (video.parent / "talk.ja.srt").write_text(SRT)
    assert told() == "talk.de.srt is used; there are others in en, ja; to choose one, set SAGE_LANGUAGE"


def test_broken_events_and_drawings_are_passed_over(video: Path) -> None:
    lines = [
        "[Script Info]\nScriptType: v4.00+\n\n[Events]",
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text",
        "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\i1}Said.",
        "Dialogue: 0,soon,0:00:03.00,Default,,0,0,0,,Not said.",
        "Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0{\\p0}",
        "Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,So {\\an7\\p1}m 0 0{\\p0\\b1}are{\\p2}m 0 0{\\p0} words{\\pos(1,2)}.{\\p1}m 1",
    ]
    video.with_suffix(".ass").write_text("\n".join(lines))
    assert _cues(video) == [(1.0, 2.0, "Said."), (5.0, 6.0, "So are words.")]


def _many(unit: str, begin: str = "", end: str = "") -> str:
    return f"{begin}{unit * (100_000 // len(unit))}{end}"


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        *((".ass", _many("{\\p1", end="}")), (".ass", _many("{\\p0", "{\\p1}")), (".ass", _many("{"))),
        *(
            (".vtt", _many(" ", "<c ")),
            (".vtt", _many("{\\")),
            (".vtt", _many("<br ")),
            (".vtt", _many("&#")),
            (".vtt", f"&{'a' * 100_000};"),
        ),
        *((".srt", _many("a", "[", "]")), (".srt", _many("a ", "[", "]")), (".srt", _many("(")), (".srt", _many("1", "&#", ";"))),
    ],
)
def test_a_cue_of_any_length_is_read(video: Path, suffix: str, text: str) -> None:
    """With expressions that go back, these took minutes to days."""
    head = {".srt": "", ".vtt": "WEBVTT\n\n", ".ass": ASS_HEAD}[suffix]
    line = "00:00:0{0:.3f} --> 00:00:0{0:.3f}\n{1}\n\n" if suffix != ".ass" else ASS
    video.with_suffix(suffix).write_text(head + line.format(1.0, text) + line.format(2.0, "Said."))
    assert _cues(video)[-1] == (2.0, Video(video).duration, "Said.")


def test_cues_of_many_lines_are_read(video: Path) -> None:
    lines = ["a"] * 100_000
    _write(video, [(0, 1, "\n".join(lines)), (1, 2, "\n".join(["b", *lines]))])
    assert [text for *_, text in _cues(video)] == ["a", "b a"]


def test_timed_text_of_any_depth_is_read(video: Path) -> None:
    cue = '<p begin="1s" end="2s">One.</p>'
    body = f"{'<span>' * 400}{'<i/>' * 150_000}{cue}{'</span>' * 400}"
    video.with_suffix(".ttml").write_text(f'<tt xmlns="http://www.w3.org/ns/ttml"><body><div end="9s">{body}</div></body></tt>')
    assert _cues(video)[-1] == (1.0, 2.0, "One.")


def test_control_characters_are_not_read(video: Path) -> None:
    _write(video, [(1, 2, "\x1b]0;title\x07Good\tmorning,\x9b31m \x1b[2Jall\x7f.\u2028\u202bYes\u202c.")])
    assert _cues(video) == [(1.0, 2.0, "]0;titleGood morning,31m [2Jall. \u202bYes\u202c.")]


def test_the_plainest_name_comes_first_and_the_language_counts(video: Path) -> None:
    for name in ("talk.de.srt", "talk.srt", "talk.en.forced.srt", "talk.pt-BR.vtt", "talker.srt", "talk.backup of my notes.srt"):
        (video.parent / name).write_text(SRT if name.endswith("srt") else "WEBVTT\n\n00:01.000 --> 00:02.000\nOla\n")
    assert [(one.source, one.language, one.forced) for one in beside(video)] == [
        ("talk.srt", "", False),
        ("talk.de.srt", "de", False),
        ("talk.pt-BR.vtt", "pt", False),
        ("talk.en.forced.srt", "en", True),
    ]
    opened = Video(video)
    portuguese = find_subtitles(opened, "pt")
    assert portuguese is not None
    assert portuguese.source in ("talk.srt", "talk.pt-BR.vtt")
    (video.parent / "talk.srt").unlink()
    only = find_subtitles(opened, "pt")
    assert only is not None
    assert only.source == "talk.pt-BR.vtt"
    assert find_subtitles(opened, "ja") is None
    assert lacking(opened, "ja") == " in ja; it has de, pt"


@pytest.mark.parametrize(("name", "codec", "delay"), [("a.mkv", "subrip", 0), ("b.mkv", "subrip", 5000)])
def test_tracks_in_a_video_keep_its_clock(tmp_path: Path, name: str, codec: str, delay: int) -> None:
    path = _with_track(tmp_path / name, codec, [(500, 1250, "Guten Morgen."), (2000, 3500, "Zu <i>spät</i>.")], delay=delay)
    found = find_subtitles(Video(path))
    assert found is not None
    assert (found.source, found.language) == ("subtitle track 1 (de)", "de")
    assert [(round(one.start, 3), round(one.end, 3), one.text) for one in found.cues] == [
        (0.5, 1.25, "Guten Morgen."),
        (2.0, 3.5, "Zu spät."),
    ]
    (part,) = found.parts(1.3, 2.5)
    assert [one.text for one in part.segments] == ["Zu spät."]


def test_tracks_that_do_not_count_are_told(tmp_path: Path, video: Path) -> None:
    path = _with_track(tmp_path / "talk.mkv", "subrip", [(0, 900, "Spät.")])
    assert lacking(Video(path), "fr") == " in fr; it has de"
    assert lacking(Video(path), "de") == lacking(Video(path)) == ", beside it or in it"
    video.with_suffix(".en.forced.srt").write_text(SRT)
    assert lacking(Video(video)) == " but forced ones"


def test_files_of_other_formats_are_told(video: Path) -> None:
    for name in ("talk.en.json3", "talk.sub", "talker.json3", "talk.json", "talk.jpg"):
        (video.parent / name).write_text("{}")
    assert find_subtitles(Video(video)) is None
    assert lacking(Video(video)) == " that can be read (talk.en.json3, talk.sub; sage reads .srt, .vtt, .ass, .ssa, .ttml)"


def test_a_file_beside_the_video_is_preferred_to_its_track(tmp_path: Path) -> None:
    path = _with_track(tmp_path / "talk.mkv", "subrip", [(0, 900, "from the track")])
    assert [one.text for one in tracks(Video(path))[0].cues] == ["from the track"]
    path.with_suffix(".srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nfrom the file\n")
    assert _cues(path) == [(0.0, 1.0, "from the file")]


@pytest.mark.parametrize(
    "text",
    [
        *("(I never told him\nabout the money.)", "(12 + 3 = 15)", "(Why not?)", "【第3章】", "[indistinct chatter", "[1] is the first"),
        *(
            "♪ Happy birthday to you ♪",
            "♪ La la ♪\nHi",
            "(whispering) Come here.",
            "[door slams]\nWho is there?",
            "(It is\n[laughs]\nnine.)",
        ),
        *("-5 degrees outside", "-.5", "-$20", "\u2013 5 is less"),
    ],
)
def test_words_are_kept_in_brackets_and_among_notes(video: Path, text: str) -> None:
    _write(video, [(1, 2, text)])
    assert _cues(video) == [(1.0, 2.0, " ".join(text.split()).removeprefix("\u2013 "))]


@pytest.mark.parametrize(
    "text",
    [
        "[indistinct chatter\nin the distance]",
        "(applause)",
        "(Er lacht.)",
        "[Music]\n(door slams)",
        "\uff08拍手\uff09",
        "♪ [music] ♪",
        "♪♪",
        "[ __ ]",
        "…",
    ],
)
def test_cues_that_only_name_sounds_are_for_viewers(video: Path, text: str) -> None:
    _write(video, [(1, 2, text), (3, 4, "Said.")])
    (found,) = beside(video)
    assert [cue.text for cue in found.cues] == ["Said."]
    assert [cue.text for cue in replace(found, sounds=True).cues] == [" ".join(text.split()), "Said."]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- What?\nMe?", "What? Me?"),
        ("- What?\n- Yes.", "- What?\n- Yes."),
        ("-¿Qué?\n—Nada,\nnada.", "-¿Qué?\n—Nada, nada."),
        ("What?\n>> No.", "What?\n>> No."),
        ("- 5 degrees", "5 degrees"),
    ],
)
def test_the_marks_of_speakers_stay_where_there_are_several(video: Path, text: str, said: str) -> None:
    _write(video, [(1, 2, text)])
    assert _cues(video) == [(1.0, 2.0, said)]


@pytest.mark.parametrize(
    ("text", "said", "speaker"),
    [
        ("<v Anna Schmidt>Good\nmorning.</v>", "Anna Schmidt: Good morning.", "Anna Schmidt"),
        ("<V.first.loud R&amp;D >- Yes.", "R&D: Yes.", "R&D"),
        ("<v Ann>Ann: Yes.", "Ann: Yes.", "Ann"),
        ("<v>Yes.</v>", "Yes.", ""),
        ("<v Ann>Yes.</v> <v Bob>No.</v>", "- Ann: Yes.\n- Bob: No.", ""),
        ("<v Ann>Yes.\n<v Bob>- No,\nI think.</v>\n[laughs]", "- Ann: Yes.\n- Bob: No, I think.\n- [laughs]", ""),
        ("<v Ann\nx < y <v>", "<v Ann x < y", ""),
    ],
)
def test_voices_of_webvtt_are_speakers(video: Path, text: str, said: str, speaker: str) -> None:
    video.with_suffix(".vtt").write_text(f"WEBVTT\n\n00:01.000 --> 00:02.000\n{text}\n")
    (found,) = beside(video)
    assert [(cue.text, cue.speaker) for cue in found.cues] == [(said, speaker)]


def test_names_in_ass_are_speakers(video: Path) -> None:
    said = [("Ann", "Hi,\\Nall."), ("", "Hi."), ("NTP", "Who is it?"), (" Dr. No ", "{\\i1}Me.")]
    events = [ASS.format(1.0, text).replace("Default,,", f"Default,{name},") for name, text in said]
    video.with_suffix(".ass").write_text(ASS_HEAD + "".join(event.replace("01.00", f"0{n}.00") for n, event in enumerate(events)))
    (found,) = beside(video)
    assert [(cue.text, cue.speaker) for cue in found.cues] == [
        ("Ann: Hi, all.", "Ann"),
        ("Hi.", ""),
        ("Who is it?", ""),
        ("Dr. No: Me.", "Dr. No"),
    ]


def test_speakers_who_begin_together_are_told_apart(video: Path) -> None:
    cue = "00:01.000 --> 00:0{}.000\n<v {}>{}\n\n"
    video.with_suffix(".vtt").write_text(f"WEBVTT\n\n{cue.format(2, 'Ann', 'Yes.')}{cue.format(3, 'Bob', 'No.')}")
    assert _cues(video) == [(1.0, 3.0, "- Ann: Yes.\n- Bob: No.")]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["ここで説明した方法", "で分けられるのであり、"], "ここで説明した方法で分けられるのであり、"),
        (["我们今天\uff0c", "「看」一下", "Python 3", "吧"], "我们今天\uff0c「看」一下 Python 3 吧"),
        (["그 존엄과", "권리에"], "그 존엄과 권리에"),
    ],
)
def test_lines_of_scripts_without_spaces_are_joined_without(video: Path, lines: list[str], said: str) -> None:
    _write(video, [(1, 2, "\n".join(lines))])
    assert _cues(video) == [(1.0, 2.0, said)]


def test_a_track_of_an_mp4_is_read(tmp_path: Path) -> None:
    def written(text: str, encoding: str = "utf-8") -> bytes:
        data = text.encode(encoding)
        return len(data).to_bytes(2, "big") + data + b"\0\0\0\x0cstylxxxx"

    cues = [(0, 900, written("{x} < y\nä\\N")), (1000, 1500, written("")), (2000, 2500, written("水", "utf-16"))]
    assert [text for *_, text in _cues(_with_track(tmp_path / "a.mp4", "mov_text", cues))] == ["{x} < y ä\\N", "水"]


@pytest.mark.parametrize("blink", [0.0, 0.01])
def test_rolling_captions_are_said_once(video: Path, blink: float) -> None:
    """With a blink, each line is shown once alone for a moment between two cues, as in YouTube's own captions."""
    rolled = ["and so we", "and so we\nwent to the", "went to the\nstation", "station\n[Music]", "[Music]\nby bus"]
    cues: list[tuple[float, float, str]] = []
    for number, text in enumerate(rolled):
        cues.append((number, number + 1 - blink, text))
        if blink:
            cues.append((number + 1 - blink, number + 1, text.splitlines()[-1]))
    cues += [(7, 8, "by bus\nyes"), (8.5, 9, "yes")]  # after a pause, too; a line alone is said again then
    _write(video, cues)
    assert [text for *_, text in _cues(video)] == ["and so we", "went to the", "station", "by bus", "yes", "yes"]


@pytest.mark.parametrize("pause", [0.0, 0.083, 0.2])
@pytest.mark.parametrize(
    "said", [["Yes.", "Yes.", "Yes, of course."], ["No.", "No.", "No.\nI said no."], ["Go.", "Go.\nNow.", "Where?\nWho?", "No."]]
)
def test_an_answer_that_is_repeated_is_no_rolling_caption(video: Path, pause: float, said: list[str]) -> None:
    _write(video, [(number, number + 1 - pause, text) for number, text in enumerate(said)])
    assert [text for *_, text in _cues(video)] == [" ".join(text.split()) for text in said]


def test_a_caption_in_many_short_cues_is_said_once(video: Path) -> None:
    _write(video, [(1 + number * 0.04, 1.04 + number * 0.04, "CITY HALL") for number in range(5)])
    assert [text for *_, text in _cues(video)] == ["CITY HALL"]


def test_a_cue_that_begins_before_the_video_is_kept(tmp_path: Path) -> None:
    path = _with_track(tmp_path / "late.mkv", "subrip", [(-200, 1000, "At once."), (1500, 2000, "Later.")], delay=200)
    assert [(round(start, 2), round(end, 2), text) for start, end, text in _cues(path)] == [(0.0, 1.0, "At once."), (1.5, 2.0, "Later.")]


def test_a_cue_without_a_duration_lasts_until_the_next_one(tmp_path: Path) -> None:
    cues = [(0, 0, "One."), (1000, 1000, " "), (2000, 2500, "Two."), (3000, 3000, "Three.")]
    path = _with_track(tmp_path / "untimed.mkv", "subrip", cues)
    assert [(round(start, 2), round(end, 2), text) for start, end, text in _cues(path)] == [
        *((0.0, 1.0, "One."), (2.0, 2.5, "Two."), (3.0, 4.0, "Three."))
    ]


@pytest.mark.parametrize(
    ("suffix", "head", "line"),
    [
        (".srt", "", "00:00:0{0:.3f} --> 00:00:0{0:.3f}\n{1}\n\n"),
        (".vtt", "WEBVTT\n\n", "00:0{0:.3f} --> 00:0{0:.3f}\n{1}\n\n"),
    ],
)
def test_so_does_one_in_a_file_and_the_last_one_until_the_end(video: Path, suffix: str, head: str, line: str) -> None:
    video.with_suffix(suffix).write_text(head + line.format(0.5, "One.") + line.format(1.0, "Two."))
    assert _cues(video) == [(0.5, 1.0, "One."), (1.0, Video(video).duration, "Two.")]


def test_an_event_of_ass_without_a_duration_is_never_shown(video: Path) -> None:
    event = "Dialogue: 0,0:00:01.00,0:00:0{0}.00,Default,,0,0,0,,{0}.\n"
    video.with_suffix(".ass").write_text(ASS_HEAD + event.format(1) + event.format(0) + event.format(2))
    assert _cues(video) == [(1.0, 2.0, "2.")]


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"PK\x03\x04 no subtitles", b"1\n99:99 --> x\n"])
def test_what_is_no_subtitle_file_is_passed_over(video: Path, data: bytes) -> None:
    video.with_suffix(".srt").write_bytes(data)
    assert find_subtitles(Video(video)) is None


def test_a_broken_file_says_so_when_it_is_read(video: Path) -> None:
    video.with_suffix(".srt").write_bytes(b"nothing of the kind")
    with pytest.raises(VideoError, match=r"^talk\.srt holds no subtitles that can be read$"):
        _ = beside(video)[0].cues

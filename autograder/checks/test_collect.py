"""Collecting: whose each file of a download is, which counts, and that nothing is lost."""

import csv
import datetime
import io
import json
import os
import zipfile
from pathlib import PurePosixPath
from zoneinfo import ZoneInfo

import pytest

from autograder.cells import MAX_NOTEBOOK_BYTES
from autograder.course import archive, unpack
from autograder.course.archive import counting_rows
from autograder.course.collect import CollectError, collect, use
from autograder.course.who import Roster, RosterError, is_lesson, origin, student_id
from autograder.lesson import get_lesson

LESSON = get_lesson(1)
SLUG = LESSON.slug
ROSTER = """name;id
"Müller, Zoë";zmueller
Anna Maria van der Berg;aberg
Kim Lee;klee1
Kim Lee;klee2
Ōe Kenzaburō;oe
"""


def notebook(text="def snr(x): ...", size=0):
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": text + "#" * size}
    return json.dumps(
        {"cells": [cell], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}
    ).encode()


def zipped(files, when=(2026, 11, 30, 12, 0, 0)):
    """A zip of names -> bytes, or (bytes, date_time)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            content, time = content if isinstance(content, tuple) else (content, when)
            archive.writestr(zipfile.ZipInfo(name, time), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


@pytest.fixture
def gather(tmp_path):
    """gather({name: bytes}): collect a zip of these into a course, once more where called again."""
    count = iter(range(100))

    def run(files, roster=None, zone=datetime.UTC):
        path = tmp_path / f"download{next(count)}.zip"
        path.write_bytes(zipped(files) if isinstance(files, dict) else files)
        return collect(tmp_path / "course", LESSON, path, roster, zone)

    return run


@pytest.fixture
def roster(tmp_path):
    path = tmp_path / "students.csv"
    path.write_text(ROSTER, encoding="utf-8-sig")
    return Roster.read(path)


@pytest.mark.parametrize(
    "place, person, key, file",
    [
        ("Surname Name_12345_assignsubmission_file_/x.ipynb", "Surname Name", "12345", "x.ipynb"),
        ("Ōe Ken_7_assignsubmission_file_a_b.ipynb", "Ōe Ken", "7", "a_b.ipynb"),
        ("leeanna_123_456_lesson (1)-2.ipynb", "leeanna", "123", "lesson (1)-2.ipynb"),
        ("leeanna_LATE_123_456_lesson.ipynb", "leeanna", "123", "lesson.ipynb"),
        ("Week 1_x_ab12_attempt_2026-11-30-23-59-12_n.ipynb", "ab12", "ab12", "n.ipynb"),
        ("HW/Abgaben/Team 5/Lee_Kim_klee_123/20261130235912_n.ipynb", "Lee Kim", "klee", "n.ipynb"),
        ("anna/deep/er/x.ipynb", "anna", "", "x.ipynb"),
        ("anna.ipynb", "anna", "", "anna.ipynb"),
        (f"anna_{SLUG}.ipynb", "anna", "", f"anna_{SLUG}.ipynb"),
    ],
)
def test_names_say_whose_a_file_is(place, person, key, file):
    found = origin(PurePosixPath(place))
    assert (found.person, found.key, found.file) == (person, key, file)


def test_names_say_more():
    assert origin(PurePosixPath("a_LATE_1_2_x.ipynb")).late
    assert not origin(PurePosixPath("a_1_2_x.ipynb")).late
    attempts = [origin(PurePosixPath(f"a_1_2_{n}")).attempt for n in ("x.ipynb", "x-1.ipynb")]
    assert attempts[0] < attempts[1]
    late = origin(PurePosixPath("A_b_attempt_2026-02-30-23-59-12_x.ipynb"))
    assert late.when is None
    for name in (
        f"{SLUG}.ipynb",
        f"{SLUG} (1).ipynb",
        "Noise Schedules - Copy.ipynb",
        "unet-2.ipynb",
    ):
        assert is_lesson(name) and origin(PurePosixPath(name)) is None
    assert not is_lesson("unet.ipynb", SLUG)
    assert student_id("../Zoë  O'Neil ") == "Zoë_ONeil"


def test_four_systems_and_their_attempts(gather):
    blackboard = "Week 1_{}_attempt_2026-11-{}-10-00-00"
    found = gather(
        {
            f"Lee Anna_11_assignsubmission_file_/{SLUG}.ipynb": notebook(),
            "obama_LATE_21_31_lesson-1.ipynb": notebook("def snr(x): 2"),
            "obama_21_30_lesson.ipynb": notebook(),
            blackboard.format("ab1", "29") + f"_{SLUG}.ipynb": notebook(),
            blackboard.format("ab1", "30") + "_final.ipynb": notebook("def snr(x): 3"),
            blackboard.format("ab1", "30") + ".txt": b"Name: A B (ab1)",
            blackboard.format("cd2", "30") + ".txt": b"Name: C D (cd2)",
            "Berg_Eva_eberg_99/20261130101112_x.ipynb": notebook(),
            "Berg_Eva_eberg_99/20261101101112_x.ipynb": notebook("old"),
            f"Lin Bo_12_assignsubmission_file_/{SLUG}.ipynb.txt": notebook("def snr(x): 4"),
            "chen_22_40_lesson-1.ipynb.json": notebook("def snr(x): 5"),
            "chen_22_40_lesson.ipynb": notebook(),
            "readme.txt": b"",
        }
    )
    assert sorted(found.copies) == ["Lee_Anna", "Lin_Bo", "ab1", "chen", "eberg", "obama"]
    assert b"def snr(x): 4" in found.copies["Lin_Bo"].read_bytes()
    assert b"def snr(x): 5" in found.copies["chen"].read_bytes()
    assert b"def snr(x): 2" in found.copies["obama"].read_bytes()
    assert b"def snr(x): 3" in found.copies["ab1"].read_bytes()
    assert found.copies["Lee_Anna"].name == f"{SLUG}.ipynb"
    stamp = found.copies["eberg"].with_name("timestamp.txt").read_text()
    assert stamp == "2026-11-30 10:11:12.000000 UTC\n"
    assert [file.student for file in found.files if file.counts and file.origin.late] == ["obama"]
    notes = {file.place: file.note for file in found.left_over}
    assert notes[blackboard.format("cd2", "30") + ".txt"] == "no notebook"
    assert "readme.txt" in notes


def test_times_are_read_in_the_zone_that_is_told(gather):
    found = gather({"anna.ipynb": notebook()}, zone=ZoneInfo("Asia/Tokyo"))
    stamp = found.copies["anna"].with_name("timestamp.txt").read_text()
    assert stamp.startswith("2026-11-30 03:00:00")
    name = "A_ab_attempt_2026-07-01-12-00-00_x.ipynb"
    found = gather({name: notebook()}, zone=ZoneInfo("Europe/Berlin"))
    stamp = found.copies["ab"].with_name("timestamp.txt").read_text()
    assert stamp.startswith("2026-07-01 10:00:00")  # summer time


def test_a_list_of_students_decides(gather, roster):
    found = gather(
        {
            f"Zoë Müller_1_assignsubmission_file_/{SLUG}.ipynb": notebook(),
            "vanderberganna maria_5_6_x.ipynb": notebook(),
            f"Kim Lee_7_assignsubmission_file_/{SLUG}.ipynb": notebook(),
            "A_klee2_attempt_2026-11-30-10-00-00_x.ipynb": notebook(),
            f"Nobody Known_9_assignsubmission_file_/{SLUG}.ipynb": notebook(),
        },
        roster,
    )
    assert sorted(found.copies) == ["klee2", "zmueller"]
    assert set(found.missing) == {"aberg", "klee1", "oe"}
    notes = " ".join(file.note for file in found.left_over)
    assert "Kim Lee (7) may be klee1 or klee2" in notes
    assert "Nobody Known (9) is not in the list" in notes


def test_a_name_without_spaces_and_accents_is_found(gather, roster):
    names = ("muellerzoe", "mullerzoe", "vanderberganna", "bergvanderannamaria", "oekenzaburo")
    found = [roster.find(origin(PurePosixPath(f"{name}_1_2_x.ipynb")))[0] for name in names]
    assert found == ["zmueller", "zmueller", None, None, "oe"]


@pytest.mark.parametrize(
    "listed, came",
    [
        ("Cem Yilmaz", "Cem Yılmaz"), ("Cem Yılmaz", "CEM YILMAZ"), ("İlker Işık", "isikilker"),
        ("Łukasz Żak", "Lukasz Zak"), ("Søren Bæk", "Soeren Baek"), ("Soren Bæk", "Søren Baek"),
        ("Đorđe Nikolić", "Dorde Nikolic"), ("Anna Weiß", "Anna Weiss"), ("Œdipe B", "Oedipe B"),
    ],
)  # fmt: skip
def test_letters_with_strokes_and_ligatures_are_found(tmp_path, listed, came):
    path = tmp_path / "students.csv"
    path.write_text(f"name,id\n{listed},x1\n", encoding="utf-8")
    place = PurePosixPath(f"{came}_1_assignsubmission_file_/x.ipynb")
    assert Roster.read(path).find(origin(place)) == ("x1", "")


def test_a_name_that_is_not_in_the_list_is_told_the_nearest(roster):
    def told(name):
        return roster.find(origin(PurePosixPath(f"{name}_1_assignsubmission_file_/x.ipynb")))[1]

    assert "nearest name in it is Müller, Zoë (zmueller)" in told("Zoe Mueler")
    assert "nearest" not in told("Wilhelmina Quist")


def test_namesakes_are_not_merged(gather):
    found = gather(
        {
            f"Kim Lee_7_assignsubmission_file_/{SLUG}.ipynb": notebook(),
            f"Kim Lee_8_assignsubmission_file_/{SLUG}.ipynb": notebook("def snr(x): 2"),
            f"Eva Lee_9_assignsubmission_file_/{SLUG}.ipynb": notebook(),
        }
    )
    assert list(found.copies) == ["Eva_Lee"]
    assert all("2 people are called Kim Lee" in file.note for file in found.left_over)


@pytest.mark.parametrize(
    "text, says",
    [
        ("who,id\na,1\n", "needs the columns name and id"),
        ("", "nothing"),
        ("name,id\na,1\nb,1\n", "line 3: 1 stands there twice"),
        ("name,id\na,../x\n", "must be a plain word"),
        ("name,id\na,\n", "must be a plain word"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path, text, says):
    path = tmp_path / "students.csv"
    path.write_text(text)
    with pytest.raises(RosterError, match=says.replace(".", r"\.")):
        Roster.read(path)


def test_wrappers_and_noise_of_zips_are_left_aside(gather):
    files = {"Download/anna.ipynb": notebook(), "Download/berta.ipynb": notebook()}
    files |= {"__MACOSX/Download/._anna.ipynb": b"x", "Download/.DS_Store": b"x"}
    assert sorted(gather(files).copies) == ["anna", "berta"]
    files = {f"HW 1/all/{who}/sub/{SLUG} (1).ipynb": notebook() for who in ("ann", "bob")}
    files |= {"HW 1/all/ann/.ipynb_checkpoints/x-checkpoint.ipynb": notebook("old")}
    assert sorted(gather(files).copies) == ["ann", "bob"]


def test_of_several_notebooks_the_newest_of_the_lesson_counts(gather):
    new, old = (2026, 11, 30, 12, 0, 0), (2026, 11, 1, 12, 0, 0)
    found = gather(
        {
            f"ann/{SLUG}.ipynb": (notebook("def snr(x): 1"), old),
            f"ann/{SLUG} (1).ipynb": (notebook("def snr(x): 2"), new),
            "ann/scratch.ipynb": (notebook("x = 3"), new),
            f"dan/{SLUG}.ipynb": (notebook("def snr(x): 1"), old),
            "dan/FINAL.ipynb": (notebook("def snr(x): 2"), new),
            "bob/a.ipynb": notebook("def snr(x): 1"),
            "bob/b.ipynb": notebook("def snr(x): 2"),
            "cat/a.ipynb": notebook("def snr(x): 1"),
            "cat/b.ipynb": notebook("def snr(x): 1"),
        }
    )
    assert sorted(found.copies) == ["ann", "cat", "dan"]
    assert b"def snr(x): 2" in found.copies["ann"].read_bytes()
    assert b"def snr(x): 2" in found.copies["dan"].read_bytes()
    notes = {file.place: file.note for file in found.left_over}
    assert notes["bob/a.ipynb"] == "2 notebooks, and nothing says which of them counts"


def test_collecting_again_keeps_what_is_newer_and_every_original(gather, tmp_path):
    new, old = (2026, 11, 30, 12, 0, 0), (2026, 11, 1, 12, 0, 0)
    gather({"ann.ipynb": (notebook("def snr(x): 1"), old)})
    found = gather({"ann.ipynb": (notebook("def snr(x): 2"), new)})
    target = found.copies["ann"]
    again = gather({"ann.ipynb": (notebook("def snr(x): 1"), old)})
    assert not again.copies and "the course has a newer one" in again.files[0].note
    assert b"def snr(x): 2" in target.read_bytes()
    kept = sorted((tmp_path / "course" / "downloaded" / SLUG / "archive").iterdir())
    assert [path.read_bytes() for path in kept] == [
        (tmp_path / f"download{n}.zip").read_bytes() for n in range(3)
    ]
    with (tmp_path / "course" / "downloaded" / SLUG / "collected.csv").open() as stream:
        assert [row["counts"] for row in csv.DictReader(stream)] == ["no", "yes", "no"]
    assert counting_rows(tmp_path / "course", LESSON)["ann"]["time"] == "2026-11-30 12:00:00 UTC"


def table(tmp_path):
    with (tmp_path / "course" / "downloaded" / SLUG / "collected.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    "worse, why",
    [
        (notebook("def unet(x): ..."), "it holds no exercise of lesson 1"),
        (notebook("snr_of = 2  # snr"), "it holds no exercise of lesson 1"),
        (b"", "the file is empty"),
        (notebook()[:-9], "the file is not a notebook"),
        (LESSON.notebook.read_bytes(), "nothing is written in it yet"),
    ],
)
def test_a_later_file_without_an_answer_replaces_none_that_has_some(gather, tmp_path, worse, why):
    later, latest = (2026, 12, 1, 12, 0, 0), (2026, 12, 2, 12, 0, 0)
    target = gather({"ann.ipynb": notebook()}).copies["ann"]
    found = gather({"ann.ipynb": (worse, later)})
    assert not found.copies and target.read_bytes() == notebook()
    (file,) = found.left_over
    assert file.refused and why in file.note and found.number(file) == 2
    assert [row["counts"] for row in table(tmp_path)] == ["yes", "no"]
    assert why in table(tmp_path)[1]["note"]
    use(tmp_path / "course", LESSON, 2)  # it counts all the same, and stays
    assert target.read_bytes() == worse
    assert target.with_name("timestamp.txt").read_text().startswith("2026-12-01 12:00:00")
    assert gather({"ann.ipynb": (notebook(), latest)}).files[0].refused
    assert [row["counts"] for row in table(tmp_path)] == ["no", "yes", "no"]


def test_the_only_file_is_taken_with_a_note_and_gives_way_to_an_older_answer(gather):
    later = (2026, 12, 1, 12, 0, 0)
    found = gather({"ann.ipynb": (b"", later), "bob.ipynb": notebook("x = 1")})
    assert sorted(found.copies) == ["ann", "bob"]
    notes = [file.note for file in found.files if file.counts]
    assert notes == ["the file is empty", "it holds no exercise of lesson 1"]
    assert gather({"ann.ipynb": notebook()}).copies["ann"].read_bytes() == notebook()


def test_one_exercise_that_differs_from_the_released_is_an_answer(gather):
    blank = LESSON.notebook.read_text(encoding="utf-8")
    written = blank.replace("snr is not written yet", "I do not know")
    assert written != blank
    later, latest = (2026, 12, 1, 12, 0, 0), (2026, 12, 2, 12, 0, 0)
    assert list(gather({"ann.ipynb": blank.encode()}).copies) == ["ann"]
    assert list(gather({"ann.ipynb": (written.encode(), later)}).copies) == ["ann"]
    assert not gather({"ann.ipynb": (blank.encode(), latest)}).copies


def test_a_late_file_over_one_in_time_is_noticed(gather, tmp_path):
    due, late = datetime.datetime(2026, 11, 30, 12), (2026, 11, 30, 12, 0, 2)
    worst = {f"cat/{SLUG} (1).ipynb": b"", "dan/x.ipynb": (notebook(), late)}
    gather({"ann.ipynb": notebook(), "bob.ipynb": (notebook(), late), **worst})
    new = (notebook("def snr(x): 2"), late)
    both = {f"cat/{SLUG}.ipynb": notebook(), f"cat/{SLUG} (2).ipynb": new}
    gather({"ann.ipynb": new, "bob.ipynb": new, **both, "dan/x.ipynb": (b"", late)})
    found = archive.late_over(tmp_path / "course", LESSON, due)
    assert {name: row["file"] for name, row in found.items()} == {
        "ann": "ann.ipynb", "cat": f"cat/{SLUG}.ipynb",
    }  # fmt: skip
    use(tmp_path / "course", LESSON, int(found["ann"]["number"]))
    assert list(archive.late_over(tmp_path / "course", LESSON, due)) == ["cat"]


def test_a_file_of_a_folder_or_of_a_zip_in_it_can_be_used_again(tmp_path):
    folder, course = tmp_path / "folder", tmp_path / "course"
    (folder / "ann").mkdir(parents=True)
    (folder / "ann" / "x.ipynb").write_bytes(notebook("def snr(x): 1"))
    os.utime(folder / "ann" / "x.ipynb", (0, 0))
    (folder / "bob.zip").write_bytes(zipped({"work/x.ipynb": notebook("def snr(x): 2")}))
    first = collect(course, LESSON, folder, zone=datetime.UTC).copies
    (folder / "ann" / "x.ipynb").write_bytes(notebook("def snr(x): 3"))
    new = zipped({"work/x.ipynb": notebook("def snr(x): 4")}, (2026, 12, 1, 12, 0, 0))
    (folder / "bob.zip").write_bytes(new)
    collect(course, LESSON, folder, zone=datetime.UTC)
    assert [use(course, LESSON, number)["student"] for number in (1, 2)] == ["ann", "bob"]
    assert first["ann"].read_bytes() == notebook("def snr(x): 1")
    assert first["ann"].with_name("timestamp.txt").read_text().startswith("1970-01-01 00:00:00")
    assert first["bob"].read_bytes() == notebook("def snr(x): 2")
    with pytest.raises(CollectError, match="has no file 9"):
        use(course, LESSON, 9)


def test_a_second_collection_misses_only_those_who_never_handed_in(gather, roster):
    gather({f"Zoë Müller_1_assignsubmission_file_/{SLUG}.ipynb": notebook()}, roster)
    found = gather({"A_klee2_attempt_2026-11-30-10-00-00_x.ipynb": notebook()}, roster)
    assert set(found.missing) == {"aberg", "klee1", "oe"}


def test_zips_in_zips_and_a_systems_zip_in_a_folder(gather, tmp_path):
    inner = zipped({f"work/{SLUG}.ipynb": notebook(), "work/notes.pdf": b"%PDF"})
    found = gather({"Lee Anna_1_assignsubmission_file_/work.zip": inner, "bob/x.zip": inner})
    assert sorted(found.copies) == ["Lee_Anna", "bob"]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "moodle.zip").write_bytes(
        zipped({f"Eva Lee_9_assignsubmission_file_/{SLUG}.ipynb": notebook()})
    )
    (folder / "carl.zip").write_bytes(inner)
    found = collect(tmp_path / "course", LESSON, folder)
    assert sorted(found.copies) == ["Eva_Lee", "carl"]


def test_a_zip_cannot_write_elsewhere(gather, tmp_path):
    names = ("../../evil.ipynb", "/etc/evil2.ipynb", "C:\\win\\evil3.ipynb", "a/../../evil4.ipynb")
    found = gather({name: notebook() for name in names})
    inside = {path for path in tmp_path.rglob("*evil*")}
    assert all(path.is_relative_to(tmp_path / "course") for path in inside)
    assert {path.parent.parent.parent.name for path in found.copies.values()} == {"submitted"}


def test_a_zip_that_would_fill_the_disk_does_not(gather, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_INNER_ZIP_BYTES", 3_000_000)
    bomb = zipped({f"{n}.ipynb": b"0" * 1_000_000 for n in range(9)})
    deep = notebook()
    for _ in range(5):
        deep = zipped({"deep.zip": deep})
    found = gather(
        {
            "eve/bomb.zip": bomb,
            "fay/deep.zip": deep,
            "gus/large.zip": zipped({"x.bin": os.urandom(3_100_000)}),
            "hal/long.ipynb": b"0" * (MAX_NOTEBOOK_BYTES + 5_000_000),
            "ida.ipynb": notebook(),
        }
    )
    assert found.copies["ida"] and found.copies["hal"].stat().st_size == MAX_NOTEBOOK_BYTES + 1
    notes = " ".join(f"{file.place}: {file.note}" for file in found.files)
    assert "eve/bomb.zip: its notebooks unpack to more than 3 MB" in notes
    assert "more than 3 zips lie in one another" in notes
    assert "gus/large.zip: the zip is larger than 3 MB" in notes


def test_damaged_encrypted_and_linked_files_are_listed(gather, tmp_path):
    whole = zipped({"ann.ipynb": notebook(size=5000), "bob.ipynb": notebook()})
    at = whole.index(b"ann.ipynb") + 20
    broken = whole[:at] + b"\xff" * 10 + whole[at + 10 :]
    found = gather(broken)
    assert list(found.copies) == ["bob"] and "ann.ipynb" in found.left_over[0].place
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("cat.ipynb", (2026, 11, 30, 12, 0, 0))
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("dan/x.zip", b"no zip at all")
    found = gather(stream.getvalue())
    assert not found.copies
    link, damaged = (file.note for file in found.left_over)
    assert link == "it is a link" and damaged.startswith("the zip is damaged")
    with pytest.raises(CollectError, match="neither a folder nor a zip"):
        gather(b"not a zip")
    with pytest.raises(CollectError, match="is not there"):
        collect(tmp_path / "course", LESSON, tmp_path / "nowhere")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "eve.ipynb").symlink_to("/etc/passwd")
    assert collect(tmp_path / "course", LESSON, folder).left_over[0].note.startswith("it is a link")
    left = list((tmp_path / "course" / "downloaded" / SLUG).glob(".new-*"))
    assert left == []


def test_names_of_old_zips_are_read(gather):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("Zo__ M__ller.ipynb", notebook())
    raw = stream.getvalue().replace(b"Zo__ M__ller", "Zoë Müller".encode())  # UTF-8, not said so
    assert list(gather(raw).copies) == ["Zoë_Müller"]

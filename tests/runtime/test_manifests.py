"""Manifests, URLs, tables and folders of results: what a corpus comes from and goes to."""

from __future__ import annotations

import contextlib
import json
import zipfile

import numpy as np
import pytest

from stale_edge_runtime.corpus import find_videos
from stale_edge_runtime.decoding import Detection
from stale_edge_runtime.errors import BadDataError, CannotWriteError, InputMissingError, UsageError
from stale_edge_runtime.formats.manifests import ManifestEntry, read_manifest
from stale_edge_runtime.formats.remote_files import fetched, url_name
from stale_edge_runtime.formats.result_tables import failure_row, read_table, result_row, write_table
from stale_edge_runtime.formats.results import read_results
from stale_edge_runtime.formats.sole_writer import LOCK_NAME, sole_writer
from stale_edge_runtime.result_folder import FINISHED, ResultFolder

ENTRIES = [ManifestEntry("a.npy", "first", 12.5), ManifestEntry("s3://b/c.mp4", None, None)]
ROWS = [{"id": "first", "path": "a.npy", "duration_s": 12.5, "more": 1}, {"url": "s3://b/c.mp4"}]
CSV = "id,path,url,duration_s,more\nfirst,a.npy,,12.5,1\n,,s3://b/c.mp4,,\n"
FOUND = [Detection(0.0, 1.5, "Long jump", 0.75)]


class TestManifests:
    def test_csv_and_json_lines_say_the_same(self, tmp_path):
        (tmp_path / "m.csv").write_text(CSV)
        (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
        assert read_manifest(tmp_path / "m.csv") == read_manifest(tmp_path / "m.jsonl") == ENTRIES

    def test_parquet_says_it_too(self, tmp_path):
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(
            pa.table(
                {
                    "id": ["first", None],
                    "path": ["a.npy", None],
                    "url": [None, "s3://b/c.mp4"],
                    "duration_s": [12.5, None],
                }
            ),
            tmp_path / "m.parquet",
        )
        assert read_manifest(tmp_path / "m.parquet") == ENTRIES

    @pytest.mark.parametrize(
        ("name", "text", "problem"),
        [
            ("m.csv", "", "lists no video"),
            ("m.csv", "id\nx\n", "row 1 names no file"),
            ("m.csv", "path,id\na.npy,a/b\n", "row 1: 'a/b' is no id of a video"),
            ("m.csv", "path,duration_s\na.npy,-1\n", "row 1: duration_s is '-1'; give positive seconds"),
            ("m.csv", "path,duration_s\na.npy,nan\n", "row 1: duration_s is 'nan'"),
            ("m.jsonl", '{"path": "a.npy"}\n[1]', "row 2 is no object"),
            ("m.jsonl", '{"path": "a.npy"', "cannot be read as a manifest"),
            ("m.jsonl", '{"path": 3}', "row 1 names no file"),
            ("m.jsonl", '{"path": "a\\u0000.npy"}', "row 1 names no file"),
        ],
    )
    def test_refused(self, tmp_path, name, text, problem):
        (tmp_path / name).write_text(text)
        with pytest.raises(BadDataError, match=problem):
            read_manifest(tmp_path / name)

    def test_no_parquet_at_all(self, tmp_path):
        pytest.importorskip("pyarrow")
        (tmp_path / "m.parquet").write_bytes(b"PAR1 no PAR1")
        with pytest.raises(BadDataError, match="cannot be read as a manifest"):
            read_manifest(tmp_path / "m.parquet")

    def test_videos_keep_the_order_the_ids_and_the_folder_of_the_manifest(self, tmp_path):
        (tmp_path / "m.csv").write_text("id,path,duration_s\nz,b.mp4,3\nv_a,sub/a.npy,\n,s3://x/v_c.mp4,\n")
        videos = find_videos([str(tmp_path / "m.csv")], ["a"])
        assert [video.video_id for video in videos] == ["z", "a", "c"]
        assert [str(video) for video in videos] == [
            *(str(tmp_path / "b.mp4"), str(tmp_path / "sub" / "a.npy"), "s3://x/v_c.mp4")
        ]
        assert [video.length for video in videos] == [3.0, 0.0, 0.0]

    def test_two_rows_of_one_id(self, tmp_path):
        (tmp_path / "m.csv").write_text("id,path\na,s3://x/1.mp4\na,s3://x/2.mp4\n")
        with pytest.raises(BadDataError, match=r"s3://x/2.mp4: is named like video a, and so is s3://x/1.mp4"):
            find_videos([str(tmp_path / "m.csv")])


class TestUrls:
    @pytest.fixture
    def archive(self, tmp_path):
        pytest.importorskip("fsspec")
        np.save(tmp_path / "a.npy", np.ones((3, 2), np.float32))
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
            file.write(tmp_path / "a.npy", "in/a.npy")
            file.writestr("in/a.features.json", "{}")
        return f"zip://in/a.npy::file://{tmp_path}/all.zip"

    def test_a_file_and_its_record_are_there_for_as_long_as_they_are_read(self, archive):
        with fetched(archive, "a.features.json") as path:
            assert np.load(path).shape == (3, 2)
            assert path.with_name("a.features.json").read_text() == "{}"
        assert not path.exists()
        (video,) = find_videos([archive])
        assert (video.video_id, video.is_video) == ("a", False)
        with video.at_hand() as here:
            assert here.read(2).shape == (3, 2)

    def test_names(self):
        assert url_name("https://host/folder/v_a.mp4?token=1") == "v_a.mp4"

    @pytest.mark.parametrize("url", ["zip://in/b.npy::file://{0}/all.zip", "nothing://a/b.npy", "file:///absent.npy"])
    def test_what_cannot_be_had(self, archive, tmp_path, url):
        with pytest.raises(InputMissingError), fetched(url.format(tmp_path)):
            pass


class TestTables:
    @pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
    def test_come_back_and_are_read_as_results(self, tmp_path, name):
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow")
        rows = [result_row("a", 10.0, FOUND), result_row("b", 2.0, [])]
        write_table(tmp_path / name, rows)
        assert read_table(tmp_path / name) == rows
        assert read_results(tmp_path / name).detections == {"a": tuple(FOUND), "b": ()}
        failed = [failure_row("c", "c.mp4", BadDataError("c.mp4", "is damaged", "do not use it"))]
        write_table(tmp_path / name, failed)
        assert read_table(tmp_path / name) == failed

    def test_refused(self, tmp_path):
        (tmp_path / "t.jsonl").write_text('{"id": 3}\n')
        with pytest.raises(BadDataError, match="row without an id"):
            read_table(tmp_path / "t.jsonl")


def test_a_folder_has_one_writer(tmp_path):
    with sole_writer(tmp_path):
        with pytest.raises(CannotWriteError, match="another program is writing to it"), sole_writer(tmp_path):
            pass
        assert (tmp_path / LOCK_NAME).exists()
    with sole_writer(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


class TestResultFolder:
    ids = ("a", "b", "c", "d", "e")

    def folder(self, path, **described):
        return ResultFolder(path, self.ids, described, 2, ".jsonl")

    def row(self, place):
        name = self.ids[place]
        if name == "d":
            return failure_row(name, "d.npy", BadDataError("d.npy", "is damaged"))
        return result_row(name, float(place), FOUND)

    def contents(self, path):
        return {one.name: one.read_bytes() for one in path.iterdir()}

    def whole(self, path):
        folder = self.folder(path)
        with folder.opened() as places:
            for place in places:
                folder.put(place, self.row(place))
        return self.contents(path)

    def test_each_video_has_one_row(self, tmp_path):
        names = self.whole(tmp_path / "out")
        assert sorted(names) == ["failures-00001.jsonl", *(f"part-0000{n}.jsonl" for n in range(3)), "run.json"]
        results = read_results(tmp_path / "out")
        assert list(results.detections) == ["a", "b", "c", "e"]
        assert [row["id"] for row in self.folder(tmp_path / "out").failures()] == ["d"]

    @pytest.mark.parametrize("ended", [[], [4], [1, 0], [3, 2, 0], [0, 1, 2, 3, 4]])
    def test_a_killed_run_goes_on_to_the_same_bytes(self, tmp_path, ended):
        folder = self.folder(tmp_path / "out")
        with contextlib.suppress(KeyboardInterrupt), folder.opened():
            for place in ended:
                folder.put(place, self.row(place))
            raise KeyboardInterrupt
        with (tmp_path / "out" / FINISHED).open("ab") as journal:
            journal.write(b'{"place": 4, "id"')  # cut off by the kill
        with pytest.raises(BadDataError, match=r"has not ended|no part"):
            read_results(tmp_path / "out")
        folder = self.folder(tmp_path / "out")
        with folder.opened() as places:
            assert sorted(places) == sorted(set(range(5)) - set(ended))
            for place in reversed(places):
                folder.put(place, self.row(place))
        assert self.contents(tmp_path / "out") == self.whole(tmp_path / "whole")

    def test_another_run_is_refused(self, tmp_path):
        self.whole(tmp_path)
        with pytest.raises(UsageError, match=r"another top \(None, now 3\)"), self.folder(tmp_path, top=3).opened():
            pass

    def test_two_drivers_are_refused(self, tmp_path):
        with (
            self.folder(tmp_path).opened(),
            pytest.raises(CannotWriteError, match="another program"),
            self.folder(tmp_path).opened(),
        ):
            pass

    def test_a_damaged_journal_is_named(self, tmp_path):
        folder = self.folder(tmp_path)
        with pytest.raises(KeyboardInterrupt), folder.opened():
            raise KeyboardInterrupt
        (tmp_path / FINISHED).write_text('{"place": "x"}\n')
        with pytest.raises(BadDataError, match="is damaged"), self.folder(tmp_path).opened():
            pass

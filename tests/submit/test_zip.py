"""The zip of our code that spark-submit.sh ships."""

from __future__ import annotations

import os
import stat
import subprocess
import zipfile


def names_in(path):
    """Return the names in a zip."""
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_zip_holds_the_three_packages_and_their_data(project):
    """The zip holds the modules and the data of etl, scoring and jobs, and neither byte code nor hidden files."""
    project.write("etl/ops/__init__.py", "")
    project.write("jobs/report.html", "<html>")
    project.write("scoring/__pycache__/x.cpython-311.pyc", "")
    project.write("scoring/.x.py.swp", "")
    project.write("tests/test_x.py", "")
    project.submit("a.yaml")
    of_jobs = ["jobs/__init__.py", "jobs/deploying/code_zip.py", "jobs/main.py", "jobs/report.html"]
    assert names_in(project.zip) == ["etl/__init__.py", "etl/ops/__init__.py", *of_jobs, "scoring/__init__.py"]


def test_the_same_code_gives_the_same_zip(project):
    """The zip is named for its contents: later modification times change neither its name nor one byte."""
    project.submit("a.yaml")
    first, data = project.zip, project.zip.read_bytes()
    for path in project.root.rglob("*.py"):
        os.utime(path, (2_000_000_000, 2_000_000_000))
    first.unlink()
    project.submit("a.yaml")
    assert (project.zip, project.zip.read_bytes()) == (first, data)


def test_a_zip_that_is_there_is_used(project):
    """A second call writes nothing."""
    project.submit("a.yaml")
    before = project.zip.stat()
    project.submit("a.yaml")
    assert project.zip.stat() == before
    assert [path.name for path in project.zip.parent.iterdir()] == [project.zip.name]


def test_a_zip_that_cannot_be_written_leaves_nothing(project):
    """On a full disk, or here over a limit of the shell, it is code 2 with the reason, and no half zip lies around."""
    project.write("etl/x.py", "X = 1\n" * 10_000)
    limited = ["bash", "-c", 'ulimit -f 8 && exec "$0" "$@"', project.command, "a.yaml"]
    done = subprocess.run(limited, env=project.environment, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot keep the code's zip: [Errno 27] File too large" in done.stderr
    assert list((project.cache / "batchscore").iterdir()) == []


def test_other_code_gives_another_zip(project):
    """A changed module, a renamed one and a new one each give another name."""
    project.submit("a.yaml")
    zips = [project.zip]
    changed = project.write("etl/x.py", "X = 1\n")
    project.submit("a.yaml")
    zips.append(project.zip)
    changed.write_text("X = 2\n", encoding="utf-8")
    project.submit("a.yaml")
    zips.append(project.zip)
    changed.rename(changed.with_name("y.py"))
    project.submit("a.yaml")
    zips.append(project.zip)
    assert len(set(zips)) == 4


def test_the_zips_folder_is_private(project):
    """The folder of the zips is closed to others, also where it was open before, for what lies there is executed."""
    project.submit("a.yaml")
    project.zip.parent.chmod(0o777)
    project.submit("a.yaml")
    assert stat.S_IMODE(project.zip.parent.stat().st_mode) == 0o700


def test_a_cache_that_cannot_be_written_is_an_error_that_says_what_to_do(project):
    """Where the zip cannot be kept, the script ends with code 2 and names the variable that helps."""
    project.cache.write_text("a file, not a folder", encoding="utf-8")
    done = project.submit("a.yaml")
    assert done.returncode == 2
    assert "Set XDG_CACHE_HOME to a folder of your own." in done.stderr
    assert not project.was_started

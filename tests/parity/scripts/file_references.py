"""Stages that write files themselves, and hand on where they are."""

import os

import curifactory as cf
from curifactory.caching import FileReferenceCacher

import observe


@cf.stage(None, ["files"], [FileReferenceCacher])
def write_files(record):
    observe.ran("write_files")
    folder = record.get_dir("texts")
    paths = [os.path.join(folder, f"text{number}.txt") for number in range(3)]
    for number, path in enumerate(paths):
        with open(path, "w") as file:
            file.write(f"text {number}")
    return paths


@cf.stage(None, ["file"], [FileReferenceCacher])
def write_file(record):
    observe.ran("write_file")
    path = record.get_path("single.txt")
    with open(path, "w") as file:
        file.write("single")
    return path


@cf.stage(["files", "file"], ["texts"])
def read(record, files, file):
    texts = []
    for path in [*files, file]:
        with open(path) as opened:
            texts.append(opened.read())
    return texts


manager = cf.ArtifactManager("file_references")
record = write_file(write_files(cf.Record(manager, cf.ExperimentParameters("only"))))
observe.value("kinds", [type(record.state["files"]), type(record.state["file"])])
observe.value("names", [os.path.basename(path) for path in record.state["files"]])
observe.value("exist", [os.path.exists(path) for path in [*record.state["files"], record.state["file"]]])
observe.value("texts", read(record).output)

with open("outside.txt", "w") as outside:
    outside.write("outside")
FileReferenceCacher("references.json").save(["outside.txt"])
observe.value("inline", FileReferenceCacher("references.json").load())
observe.value("all there", FileReferenceCacher("references.json").check())
with open("by_hand.json", "w") as by_hand:
    by_hand.write('["outside.txt"]')
observe.value("paths written by hand", FileReferenceCacher("by_hand.json").load())
os.remove("outside.txt")
observe.value("one is gone", FileReferenceCacher("references.json").check())

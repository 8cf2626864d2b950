"""A cacher of one's own by hand: its facts are written and read when it says so."""

import os

from curifactory.caching import Cacheable, JsonCacher

import observe


class Counted(Cacheable):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, extension=".counted", **kwargs)

    def save(self, obj):
        self.extra_metadata["best"] = 13
        self.save_metadata()
        JsonCacher(self.get_path()).save(obj)
        with open(self.get_path("_more.txt"), "w") as file:
            file.write("more")

    def load(self):
        self.load_metadata()
        observe.value("extra", self.extra_metadata)
        return JsonCacher(self.get_path()).load()


Counted("by_hand.counted").save([1, 2, 3])
cacher = Counted("by_hand.counted")
observe.value("loaded", cacher.load())
observe.value("metadata", cacher.metadata["extra"])
observe.value("files", sorted(name for name in os.listdir() if name.startswith("by_hand")))
observe.value("paths", sorted(cacher.cache_paths))
folder = Counted("in_folder").get_dir("_parts")
observe.value("folder", [folder, os.path.isdir(folder)])

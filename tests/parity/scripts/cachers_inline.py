"""Cachers by hand: a path, and what is saved there."""

import os

import curifactory as cf
from curifactory.caching import JsonCacher, PickleCacher

import observe

cacher = JsonCacher("by_hand.json")
observe.value("there at first", cacher.check())
saved = cacher.save({"a": [1, 2.5, None, True], "b": {"c": "d"}})
observe.value("saved", saved)
observe.value("there", cacher.check())
observe.value("loaded", JsonCacher("by_hand.json").load())
observe.value("path", [cacher.get_path(), cacher.get_path("_other.txt")])
observe.value("metadata", cacher.load_metadata())

pickled = PickleCacher("by_hand.pkl")
pickled.save({1: (2, 3), "set": {4}})
observe.value("pickled", PickleCacher("by_hand.pkl").load())
observe.value("without an extension", [JsonCacher("plain").save([1]), os.path.exists("plain")])
by_module = cf.caching.JsonCacher(path_override="folder.json")
by_module.save("text")
observe.value("by keyword", by_module.load())
observe.value("extensions", [cacher.extension, pickled.extension])
observe.value("overrides", [cacher.path_override, cacher.name, cacher.subdir, cacher.prefix, cacher.track])
observe.error("no path", RuntimeError, JsonCacher().get_path)
observe.error("nothing there", FileNotFoundError, JsonCacher("nowhere.json").load)
observe.error("base save", NotImplementedError, cf.caching.Cacheable("x").save, 1)
observe.error("base load", NotImplementedError, cf.caching.Cacheable("x").load)

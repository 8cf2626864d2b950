"""Which classes may be parameter sets, and what is said of those whose fields would be ignored."""

from __future__ import annotations

import abc
import copy
import dataclasses
import functools
import math
import pickle
from dataclasses import dataclass, field
from typing import Any, ClassVar

import attrs
import pydantic
import pytest

from curidask.errors import ParameterError, UnknownKeywordError
from curidask.hashing import digest, set_hash_functions
from curidask.params import ComputedHash, ExperimentParameters, fill_hash
from curidask.runs import param_registry


@dataclass
class Params(ExperimentParameters):
    kind: str = "adam"
    rate: float = 0.1


@dataclass
class Inherited(Params):
    deep: bool = True


@dataclass(frozen=True)
class Frozen(ExperimentParameters):
    kind: str = "adam"
    rate: float = 0.1


@dataclass(slots=True)
class Slotted(ExperimentParameters):
    kind: str = "adam"
    rate: float = 0.1


@dataclass(frozen=True, slots=True)
class Both(ExperimentParameters):
    kind: str = "adam"
    rate: float = 0.1

    def doubled(self) -> float:
        return self.rate * 2


@dataclass(frozen=True)
class InheritedFrozen(Frozen):
    deep: bool = True


@dataclass(kw_only=True)
class Keywords(ExperimentParameters):
    kind: str = "adam"
    rate: float = 0.1


@attrs.define
class Attributes(ExperimentParameters):
    name: str = "UNNAMED"
    kind: str = "adam"
    rate: float = 0.1


@attrs.frozen
class FrozenAttributes(ExperimentParameters):
    name: str = "UNNAMED"
    kind: str = "adam"
    rate: float = 0.1


class Model(pydantic.BaseModel, ExperimentParameters):
    kind: str = "adam"
    rate: float = 0.1


class FrozenModel(pydantic.BaseModel, ExperimentParameters):
    model_config = pydantic.ConfigDict(frozen=True)
    kind: str = "adam"
    rate: float = 0.1


@pydantic.dataclasses.dataclass
class Checked(ExperimentParameters):
    kind: str = "adam"
    rate: float = 0.1


DATACLASSES = (Params, Frozen, Slotted, Both, Checked)
ALL = (*DATACLASSES, Keywords, Attributes, FrozenAttributes, Model, FrozenModel)


@pytest.mark.parametrize("cls", [*DATACLASSES, Attributes, FrozenAttributes, Inherited, InheritedFrozen])
def test_fields_follow_the_name_by_position(cls: Any) -> None:
    made = cls("slow", "sgd", 0.2)
    assert (made.name, made.kind, made.rate, made.hash, made.overwrite) == ("slow", "sgd", 0.2, None, False)


@pytest.mark.parametrize("cls", ALL)
def test_all_kinds_of_classes_hash_alike(cls: Any) -> None:
    made = cls(name="a", rate=0.2)
    assert made.params_hash() == Params("b", rate=0.2).params_hash() == fill_hash(made)
    assert made.params_hash() == cls(name="c", rate=0.2).params_hash() != cls(name="a").params_hash()
    assert made.params_hash(dry=True)["rate"] == ("value of type float", "0.2")
    assert param_registry.describe(made).values == {"kind": "adam", "rate": 0.2}
    for copied in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), copy.copy(made)):
        assert copied == made
        assert copied.params_hash() == made.params_hash()
    with pytest.raises(UnknownKeywordError, match="did you mean 'rate'"):
        cls(rat=0.3)


@pytest.mark.parametrize(
    ("made", "changed"),
    [
        *((cls, lambda made: dataclasses.replace(made, rate=0.3)) for cls in (*DATACLASSES, Keywords)),
        (Attributes, lambda made: attrs.evolve(made, rate=0.3)),
        (FrozenAttributes, lambda made: attrs.evolve(made, rate=0.3)),
        (Model, lambda made: made.model_copy(update={"rate": 0.3})),
        (Model, lambda made: Model(**{**made.model_dump(), "rate": 0.3})),
        (FrozenModel, lambda made: FrozenModel.model_validate({**made.model_dump(), "rate": 0.3})),
    ],
)
def test_a_changed_copy_gets_a_hash_of_its_own(made: Any, changed: Any) -> None:
    first = made(name="a")
    assert fill_hash(first) == Params().params_hash()
    assert changed(first).params_hash() == Params(rate=0.3).params_hash()


@pytest.mark.parametrize("cls", [Params, Frozen, Slotted, Both, Attributes, Keywords])
def test_the_hash_is_written_on_the_set(cls: Any) -> None:
    made = cls(name="a")
    assert made.hash is None
    filled = fill_hash(made)
    assert made.hash == filled
    assert isinstance(made.hash, ComputedHash)


def test_frozen_sets_are_frozen_and_have_methods() -> None:
    for made in (Frozen("a"), Both("a"), FrozenAttributes("a")):
        with pytest.raises(AttributeError):
            made.rate = 3  # type: ignore[misc]
        assert hash(made) == hash(copy.copy(made))
    assert Both("a", rate=0.2).doubled() == 0.4
    with pytest.raises(TypeError, match="non-frozen dataclass from a frozen"):

        @dataclass
        class Thawed(Frozen):
            pass


def test_a_set_is_shown_with_its_bookkeeping_first() -> None:
    assert repr(Both("a")) == "Both(name='a', hash=None, overwrite=False, kind='adam', rate=0.1)"
    assert [f.name for f in dataclasses.fields(Both)][:4] == ["name", "hash", "overwrite", "hash_representations"]


def test_hash_and_overwrite_are_keywords_only() -> None:
    with pytest.raises(TypeError):
        ExperimentParameters("a", "hash")  # type: ignore[misc]
    assert ExperimentParameters("a", hash="h", overwrite=True).params_hash() == "h"


def test_hash_representations_that_a_class_declares_stay_keywords_only() -> None:
    @dataclass
    class Mine(ExperimentParameters):
        kind: str = "adam"
        hash_representations: dict[str, Any] = field(default_factory=lambda: {"kind": None})

    @dataclass
    class Theirs(ExperimentParameters):
        hash_representations: dict[str, Any] = set_hash_functions(kind=None)
        kind: str = "adam"

    for cls in (Mine, Theirs):
        assert cls("a", "sgd").kind == "sgd"
        assert cls("a", "sgd").params_hash() == cls("a").params_hash()


def test_bookkeeping_by_position_is_refused() -> None:
    @dataclass
    class Mine(ExperimentParameters):
        overwrite: bool = True
        kind: str = "adam"

    with pytest.raises(ParameterError, match="'overwrite' would be given by its position"):
        Mine("a", "sgd")
    assert Mine("a").overwrite


def test_a_name_that_does_not_come_first_is_refused() -> None:
    @dataclass
    class Mixin:
        kind: str = "adam"

    @dataclass
    class Wrong(ExperimentParameters, Mixin):
        rate: float = 0.1

    @dataclass
    class Right(Mixin, ExperimentParameters):
        rate: float = 0.1

    with pytest.raises(ParameterError, match="first field of Wrong is 'kind'"):
        Wrong("a")
    assert Wrong(name="a").name == Right("a").name == "a"
    assert Right("a", "sgd").kind == "sgd"


# --- fields that would be ignored ------------------------------------------------------------------------------------
class NotDecorated(ExperimentParameters):
    rate: float = 0.1


class NotTyped(ExperimentParameters):
    rate = 0.9


@dataclass
class NotTypedDataclass(ExperimentParameters):
    kind: str = "adam"
    rate = 0.9


@dataclass
class NameNotTyped(ExperimentParameters):
    name = "slow"


@dataclass
class OfNotDecorated(NotDecorated):
    kind: str = "adam"


@dataclass
class FunctionNotTyped(ExperimentParameters):
    activation = math.tanh


@attrs.define
class AttributesNotTyped(ExperimentParameters):
    name: str = "UNNAMED"
    rate = 0.9


@attrs.define
class Nameless(ExperimentParameters):
    rate: float = 0.1


@dataclass
class MethodTaken(ExperimentParameters):
    params_hash: str = ""


class WrongWayRound(ExperimentParameters, pydantic.BaseModel):
    rate: float = 0.1


@pytest.mark.parametrize(
    ("cls", "said", "fix"),
    [
        (NotDecorated, "NotDecorated declares 'rate' but is no dataclass", "`@dataclass` above `class NotDecorated`"),
        (NotTyped, "NotTyped gives 'rate' no type", "`rate: float = 0.9`, and `@dataclass` above"),
        (NotTypedDataclass, "gives 'rate' no type", "`rate: float = 0.9` ("),
        (NameNotTyped, "gives 'name' no type", "`name: str = 'slow'`"),
        (OfNotDecorated, "NotDecorated declares 'rate'", "`@dataclass`"),
        (FunctionNotTyped, "gives 'activation' no type", "activation: "),
        (AttributesNotTyped, "gives 'rate' no type", "rate: float"),
        (Nameless, "has no field `name`", 'name: str = "UNNAMED"'),
        (MethodTaken, "MethodTaken has a field 'params_hash'", "another name"),
        (WrongWayRound, "WrongWayRound inherits from ExperimentParameters first", "(BaseModel, ExperimentParameters)"),
    ],
)
def test_fields_that_would_be_ignored_are_an_error(cls: Any, said: str, fix: str) -> None:
    for _ in range(2):
        with pytest.raises(ParameterError) as caught:
            cls()
        assert said in caught.value.what
        assert fix in caught.value.fix
        assert "test_param_classes.py:" in caught.value.where


def test_methods_constants_and_private_names_are_no_fields() -> None:
    class Methods(Params):
        LIMIT: ClassVar[int] = 3
        quoted: "ClassVar[int]" = 4  # noqa: UP037
        _private = 5
        Alias = dict[str, int]

        class Nested:
            pass

        @property
        def doubled(self) -> float:
            return self.rate * 2

        @functools.cached_property
        def costly(self) -> float:
            return self.rate

        @staticmethod
        def helper() -> int:
            return 1

        @classmethod
        def make(cls) -> Any:
            return cls("made")

        @functools.lru_cache  # noqa: B019
        def cached(self) -> int:
            return 1

        alias = doubled

    made = Methods.make()
    assert made.costly == 0.1
    assert made.params_hash() == Params().params_hash()


def test_abstract_written_and_made_classes_are_taken() -> None:
    class Abstract(ExperimentParameters, abc.ABC):
        @abc.abstractmethod
        def build(self) -> Any: ...

    @dataclass
    class Concrete(Abstract):
        rate: float = 0.1

        def build(self) -> Any:
            return self.rate

    class Written(ExperimentParameters):
        rate: float

        def __init__(self, rate: float) -> None:
            super().__init__("written")
            self.rate = rate

    assert Concrete("a").build() == 0.1
    assert Written(0.2).name == "written"
    assert Written(0.2).params_hash() != Written(0.3).params_hash()
    assert type(dataclasses.make_dataclass("Made", [("x", int, 1)], bases=(ExperimentParameters,))("a")).__name__


# --- as parts of sets ------------------------------------------------------------------------------------------------
@attrs.define
class Part:
    rate: float = 0.1
    new: Any = None


class ModelPart(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    rate: float = 0.1
    new: Any = None
    _seen: int = pydantic.PrivateAttr(0)

    @functools.cached_property
    def costly(self) -> float:
        return self.rate


def test_attrs_and_pydantic_parts_count_by_class_and_fields() -> None:
    assert digest(Part(0.2)) == digest(Part(0.2)) != digest(Part(0.3))
    model = ModelPart(rate=0.2)
    before = digest(model)
    assert model.costly == 0.2
    assert digest(model) == before == digest(ModelPart(rate=0.2)) != digest(ModelPart(rate=0.3))
    assert digest(ModelPart(rate=0.2, more=1)) != before
    model._seen = 1
    assert digest(model) != before
    assert digest(Part()) != digest(ModelPart())
    assert Params(kind=Part(0.2)).params_hash() != Params(kind=Part(0.3)).params_hash()  # type: ignore[arg-type]
    shown = Params(kind=ModelPart(rate=0.2)).params_hash(dry=True)["kind"]  # type: ignore[arg-type]
    assert shown[1]["rate"] == ("value of type float", "0.2")

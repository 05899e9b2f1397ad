import json
from dataclasses import dataclass, field, replace

import pytest
from small import CONFIG

from worldmodel import WorldModelConfig, dynamics, encoders, objectives
from worldmodel.objectives import ConsistencyConfig
from worldmodel.registry import Registry, config_from_dict, config_to_dict


@dataclass(frozen=True)
class WheelConfig:
    spokes: int = 8
    radius: float = 1.0


@dataclass(frozen=True)
class SailConfig:
    area: float = 2.0


@dataclass(frozen=True)
class CartConfig:
    wheels: tuple[WheelConfig, ...] = (WheelConfig(), WheelConfig(4))
    mover: WheelConfig | SailConfig | None = None
    names: tuple[str, ...] = ()
    loads: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class CoachConfig:
    front: WheelConfig = WheelConfig()
    back: WheelConfig = field(default_factory=lambda: WheelConfig(4))
    sail: SailConfig | None = None


@dataclass(frozen=True)
class LoadedConfig:
    loads: tuple[float, ...] = (1.0,)
    name: str = ""


class Wheel:
    def __init__(self, config, *, road: str) -> None:
        self.config, self.road = config, road


@pytest.fixture
def movers(monkeypatch) -> Registry:
    monkeypatch.setattr("worldmodel.registry._CONFIG_CLASSES", {})
    registry: Registry = Registry("mover")
    registry.register("wheel", WheelConfig)(Wheel)
    registry.register("sail", SailConfig)(Wheel)
    return registry


def test_a_part_is_built_from_its_name_its_options_or_its_configuration(movers):
    assert movers.names() == ["sail", "wheel"]
    assert movers.make("wheel", road="sand").config == WheelConfig()
    assert movers.make("wheel", options={"spokes": 3}, road="sand").config == WheelConfig(3)
    built = movers.make(WheelConfig(5), options={"radius": 2.0}, road="mud")
    assert (built.config, built.road) == (WheelConfig(5, 2.0), "mud")


def test_options_are_read_from_one_word_each(movers):
    movers.register("cart", LoadedConfig)(Wheel)
    assert movers.read("cart,loads=0.5x2,name=hay") == ("cart", {"loads": (0.5, 2.0), "name": "hay"})
    assert movers.read("cart,loads=3")[1] == {"loads": (3.0,)} and movers.read("cart,loads=")[1] == {"loads": ()}
    with pytest.raises(ValueError, match="loads='a' is not accepted: give numbers with x between them"):
        movers.read("cart,loads=a")


def test_options_of_a_part_are_read_behind_a_point(movers):
    movers.register("coach", CoachConfig)(Wheel)
    assert movers.read("coach,front.spokes=6,front.radius=2") == ("coach", {"front": WheelConfig(6, 2.0)})
    assert movers.read("coach,back.radius=2") == ("coach", {"back": WheelConfig(4, 2.0)})
    for text, words in (
        ("coach,front.spoks=6", "no option of WheelConfig named 'spoks': did you mean 'spokes'"),
        ("coach,font.spokes=6", "no option of CoachConfig named 'font': did you mean 'front'"),
        ("coach,sail.area=6", "sail of CoachConfig has no option 'area': it is None unless given"),
        ("coach,front.spokes=many", "spokes='many' is not accepted: give int"),
    ):
        with pytest.raises(ValueError, match=words):
            movers.read(text)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda m: m.make("weel", road=""), "There is no mover named 'weel': did you mean 'wheel'"),
        (lambda m: m.make("zzz", road=""), "There is no mover named 'zzz': choose from sail, wheel"),
        (lambda m: m.config("wheel", spoks=3), "no option of WheelConfig named 'spoks': did you mean 'spokes'"),
        (lambda m: m.make(CartConfig(), road=""), "CartConfig configures no mover: choose from sail, wheel"),
        (lambda m: m.register("wheel", SailConfig)(Wheel), "A mover named 'wheel' is registered already"),
        (lambda m: config_from_dict(CartConfig, {"mover": {"kind": "mover/weel"}}), "did you mean 'mover/wheel'"),
        (lambda m: config_from_dict(CartConfig, {"weels": []}), "did you mean 'wheels'"),
    ],
)
def test_what_does_not_exist_is_answered_in_a_sentence_with_the_nearest(movers, act, words):
    with pytest.raises(ValueError, match=words) as caught:
        act(movers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        CartConfig(),
        CartConfig((), SailConfig(3.5), ("a", "b"), (1.0, 2.5)),
        CartConfig((WheelConfig(3, 0.5),), WheelConfig(1), (), ()),
    ],
)
def test_a_configuration_survives_json(movers, config):
    plain = json.loads(json.dumps(config_to_dict(config)))
    read = config_from_dict(CartConfig, plain)
    assert read == config and type(read.mover) is type(config.mover)


def test_whole_numbers_are_read_as_the_decimals_that_they_stand_for(movers):
    read = config_from_dict(CartConfig, {"wheels": [{"radius": 2}], "loads": [1, 2]})
    assert isinstance(read.wheels[0].radius, float)
    assert all(isinstance(value, float) for value in read.loads)


def test_a_world_models_configuration_survives_json_and_names_its_parts():
    config = replace(CONFIG, objectives=(ConsistencyConfig(decay=0.3), ConsistencyConfig(2.0)), continuation=None)
    plain = json.loads(json.dumps(config_to_dict(config)))
    assert config_from_dict(WorldModelConfig, plain) == config
    assert plain["dynamics"]["kind"] == "dynamics/simnorm" and plain["encoder"]["kind"] == "encoder/vector"
    expected = {"kind": "objective/consistency", "weight": 2.0, "decay": 0.5, "horizon": None}
    assert plain["objectives"][1] == expected


@pytest.mark.parametrize(
    ("make", "name", "nearest"),
    [
        (encoders.make, "vectr", "vector"),
        (dynamics.make, "simnrm", "simnorm"),
        (objectives.make, "consistncy", "consist"),
    ],
)
def test_the_librarys_parts_are_found_by_their_nearest_names(make, name, nearest):
    with pytest.raises(ValueError, match=f"did you mean '{nearest}"):
        make(name)


def test_a_configuration_belongs_to_one_part(movers):
    from worldmodel.registry import Registry

    registry = Registry("mover")
    config_class = type(movers.config(movers.names()[0]))
    registry.register("first", config_class)(type("First", (), {}))
    with pytest.raises(ValueError, match="derive a class of its own"):
        registry.register("second", config_class)(type("Second", (), {}))


def test_a_part_is_given_what_it_names_and_says_what_it_lacks(movers):
    assert movers.make("wheel", road="sand").road == "sand"
    assert movers.make("wheel", road="sand", spokes=7).config.spokes == 7, "an option may be a keyword"
    with pytest.raises(ValueError, match="There is no option of WheelConfig named 'wind'"):
        movers.make("wheel", road="sand", wind=3.0)
    with pytest.raises(ValueError, match="The mover 'sail' has to know road: add road=…"):
        movers.make(SailConfig())

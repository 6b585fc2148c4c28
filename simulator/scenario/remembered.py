"""Functions of a scenario that remember what they returned, by what they read of it.

A search asks the same of many scenarios that differ in something else: the parameters of a layer do not
depend on the pipeline's schedule. Rather than stating for each function what it depends on, which would be
wrong after the next change, the first call notes every setting that is read, and later ones with the same
values of these settings get the same result. Results are shared, so nobody may change them.
"""

from __future__ import annotations

from functools import update_wrapper
from operator import itemgetter
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, TypeVar, cast

from simulator.scenario.setting_codes import SettingCodes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from simulator.scenario.scenario import Scenario

P = ParamSpec("P")
R = TypeVar("R")

_PARTS = ("parallelism", "training")
"""Parts of a scenario that are read setting by setting."""
_WHOLE = ("cluster", "model", "software")
"""Parts that count as a whole: what is remembered of one triple of them is no use for another."""
_WORLDS = 64
_RESULTS = 100_000
_MISSING = object()


def remembered(function: Callable[Concatenate[Scenario, P], R]) -> Callable[Concatenate[Scenario, P], R]:
    """Let a function remember its results; further arguments are hashable."""
    return cast("Callable[Concatenate[Scenario, P], R]", update_wrapper(_Remembered(function), function))


class _Results:
    """What a function returned after it had read certain settings, by their codes and its arguments."""

    __slots__ = ("known", "noted", "read")

    def __init__(self, noted: dict[str, None]) -> None:
        self.noted = noted
        places = [_codes.place(path) for path in noted]
        self.read: Callable[[tuple[int, ...]], object] = itemgetter(*places) if places else _nothing
        self.known: dict[Hashable, object] = {}


def _nothing(_codes: tuple[int, ...]) -> tuple[()]:
    return ()


class _Asked:
    """A scenario with what is remembered of its like, and the codes of settings that had a place by then."""

    __slots__ = ("codes", "scenario", "world")

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = _world(scenario)
        self.codes = _codes.of(scenario)

    def all_codes(self) -> tuple[int, ...]:
        """Return the codes of all settings that have a place by now."""
        if len(self.codes) < _codes.places:
            self.codes = _codes.of(self.scenario)
        return self.codes


class _Remembered(Generic[P, R]):
    def __init__(self, function: Callable[Concatenate[Scenario, P], R]) -> None:
        self._function = function

    def __call__(self, scenario: Scenario, *args: P.args, **kwargs: P.kwargs) -> R:
        reader: _Reader | None = scenario if type(scenario) in _READERS else None  # type: ignore[assignment]
        asked = _asked(scenario) if reader is None else reader.asked
        known = asked.world.get(self)
        if known is None:
            known = asked.world[self] = []
        codes = asked.codes if len(asked.codes) == _codes.places else asked.all_codes()
        for results in known:
            key = (results.read(codes), args, *kwargs.items()) if kwargs else (results.read(codes), args)
            found = results.known.get(key, _MISSING)
            if found is not _MISSING:
                if reader is not None:
                    reader.log.update(results.noted)  # so that whoever asked notes it too
                return cast("R", found)
        log: dict[str, None] = {}
        value = self._function(cast("Scenario", _Reader(asked.scenario, "", log, asked)), *args, **kwargs)
        _keep(known, log, asked, value, (args, *kwargs.items()))
        if reader is not None:
            reader.log.update(log)
        return value


def _keep(
    known: list[_Results],
    log: dict[str, None],
    asked: _Asked,
    value: object,
    arguments: tuple[object, ...],
) -> None:
    results = next((each for each in known if each.noted == log), None)
    if results is None:
        results = _Results(log)
        known.append(results)
    if len(results.known) >= _RESULTS:
        results.known.clear()
    results.known[results.read(asked.all_codes()), *arguments] = value


class _Reader:
    """A scenario, or a part of one, that notes which of its settings are read."""

    def __init__(self, actual: object, path: str, log: dict[str, None], asked: _Asked) -> None:
        self.actual = actual
        self.path = path
        self.log = log
        self.asked = asked

    def __getattr__(self, name: str) -> object:
        """Note a setting when it is read first; from then on it is an attribute like others."""
        value = self.__dict__[name] = self._first(name)
        return value

    def _first(self, name: str) -> object:
        kind = getattr(type(self.actual), name, None)
        if isinstance(kind, property) and kind.fget is not None:
            return kind.fget(self)
        if isinstance(kind, FunctionType):
            return MethodType(kind, self)
        value = getattr(self.actual, name)
        path = f"{self.path}{name}"
        if not self.path and name in _PARTS:
            return _Reader(value, f"{path}.", self.log, self.asked)
        if self.path or name not in _WHOLE:
            self.log[path] = None
        return value


_READERS: tuple[type, ...] = (_Reader,)
_Known = dict[object, list[_Results]]
_by_identity: dict[tuple[int, ...], tuple[_Known, tuple[object, ...]]] = {}
_by_content: list[tuple[tuple[object, ...], _Known]] = []
_codes = SettingCodes()
_latest: list[_Asked] = []


def forget() -> None:
    """Drop everything that is remembered."""
    _forget_worlds()
    _latest.clear()
    _codes.clear()


def _forget_worlds() -> None:
    _by_identity.clear()
    _by_content.clear()


def _asked(scenario: Scenario) -> _Asked:
    """Return what is asked of a scenario; often that is the one of the call before."""
    if not _latest or _latest[0].scenario is not scenario:
        _latest[:] = (_Asked(scenario),)
    return _latest[0]


def _world(scenario: Scenario) -> _Known:
    """Return what is remembered of scenarios with the same model, hardware and software."""
    parts = (scenario.cluster, scenario.model, scenario.software)
    key = (id(parts[0]), id(parts[1]), id(parts[2]))
    world = _by_identity.get(key)
    if world is None:
        if len(_by_identity) >= _WORLDS:
            _forget_worlds()
        known = next((known for content, known in _by_content if content == parts), None)
        if known is None:
            known = {}
            _by_content.append((parts, known))
        # The parts are kept beside it: as long as they exist, nothing else has their ids.
        world = _by_identity[key] = known, parts
    return world[0]

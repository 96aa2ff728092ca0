"""More ways to read something: attributes whose names stand elsewhere than in the byte code of who
reads them, or that are not there at first. As in read_cases.py."""

import operator
import sys
import types

import tandem as td

from read_cases import Plain

NAMES = ("rate", "other")
NAME = "rate"


class Bare:
    pass


def put(o):
    """An attribute that is there if it is not 1."""
    def change(v):
        if v != 1.0:
            o.rate = v
        elif "rate" in vars(o):
            del o.rate

    return change


def held(v=1.0):
    o = Bare()
    o.rate, o.other = v, 1.0
    return o


def in_a_module_of_a_test(**what):
    module = types.ModuleType("names_of_a_test")
    vars(module).update(what)
    sys.modules["names_of_a_test"] = module


def of_an_imported_object():
    o = held()
    in_a_module_of_a_test(o=o)

    def f(x):
        from names_of_a_test import o
        return x * o.rate

    return f, lambda v: setattr(o, "rate", v)


def of_an_imported_class():
    class Kind:
        rate = 1.0

    in_a_module_of_a_test(Kind=Kind)

    def f(x):
        from names_of_a_test import Kind as K
        return x * K.rate

    return f, lambda v: setattr(Kind, "rate", v)


def of_a_property_of_that_name():
    class Settings:
        @property
        def rate(self):
            return self.__dict__["rate"]

        @rate.setter
        def rate(self, v):
            self.__dict__["rate"] = v

    o = Settings()
    o.rate = 1.0
    return lambda x: x * o.rate, lambda v: setattr(o, "rate", v)


class Checked:
    def __set_name__(self, kind, name):
        self.name = name

    def __get__(self, o, kind):
        return o.__dict__[self.name]

    def __set__(self, o, v):
        o.__dict__[self.name] = v


def of_a_descriptor_of_that_name():
    class Settings:
        rate = Checked()

        def scaled(self, x):
            return x * self.rate

    o = Settings()
    o.rate = 1.0
    return lambda x: o.scaled(x), lambda v: setattr(o, "rate", v)


def by_position_in_a_match():
    class Point:
        __match_args__ = ("other", "rate")
        rate = other = 1.0

    o, scope = Point(), {}
    exec("def make(o, Point):\n def f(x):\n  match o:\n   case Point(_, r):\n    return x * r\n"
         " return f\n", scope)
    return scope["make"](o, Point), lambda v: setattr(o, "rate", v)


def of_an_element_that_may_have_none():
    o = Bare()
    some = [o]
    return lambda x: x * getattr(some[0], "rate", 1.0), put(o)


def of_a_result_that_may_have_none():
    o = Bare()

    def find():
        return o

    return lambda x: x * (find().rate if hasattr(find(), "rate") else 1.0), put(o)


def of_an_element_that_is_tried():
    o = Bare()
    some = [o]

    def f(x):
        try:
            return x * some[0].rate
        except AttributeError:
            return x * 1.0

    return f, put(o)


def of_a_class_that_may_have_none():
    class Kind:
        pass

    return lambda x: x * getattr(Kind, "rate", 1.0), put(Kind)


def of_a_class_that_is_tried():
    class Kind:
        pass

    def f(x):
        try:
            return x * Kind.rate
        except AttributeError:
            return x * 1.0

    return f, put(Kind)


def of_the_class_of_an_object_that_may_have_none():
    class Kind:
        pass

    o = Kind()
    return lambda x: x * (type(o).rate if hasattr(type(o), "rate") else 1.0), put(Kind)


def by_names_of_a_global():
    o = held()

    def f(x):
        for name in NAMES:
            x = x * getattr(o, name)
        return x

    return f, lambda v: setattr(o, "rate", v)


def by_a_global_name():
    o = held()
    return lambda x: x * getattr(o, NAME), lambda v: setattr(o, "rate", v)


def by_names_of_a_closure():
    o, names = held(), {"first": "rate"}
    return lambda x: x * getattr(o, names["first"]), lambda v: setattr(o, "rate", v)


def by_a_name_that_is_passed():
    o = held()

    def scaled(x, name):
        return x * getattr(o, name)

    return lambda x: scaled(x, "rate"), lambda v: setattr(o, "rate", v)


def by_a_getter_of_an_attributes_attribute():
    o = Bare()
    o.inner = held()
    return lambda x: x * operator.attrgetter("inner.rate")(o), lambda v: setattr(o.inner, "rate", v)


def by_a_getter_that_was_made_before():
    o = Bare()
    o.inner, get = held(), operator.attrgetter("inner.rate")
    return lambda x: x * get(o), lambda v: setattr(o.inner, "rate", v)


def by_a_format():
    o = Bare()
    o.inner = held()
    return lambda x: x * float("{0.inner.rate}".format(o)), lambda v: setattr(o.inner, "rate", v)


def of_a_dict_whose_method_is_compiled():
    class Settings(dict):
        @td.compile
        def scaled(self, x):
            return x * self["rate"]

    o = Settings(rate=1.0)
    return o.scaled, lambda v: o.update(rate=v)


def of_a_list_whose_method_is_compiled():
    class Rates(list):
        @td.compile
        def scaled(self, x):
            return x * self[0]

    o = Rates([1.0])
    return o.scaled, lambda v: o.__setitem__(0, v)


def of_a_tuple_whose_method_is_compiled():
    class Both(tuple):
        @td.compile
        def scaled(self, x):
            return x * self[1]["rate"]

    o = Both((Plain(), {"rate": 1.0}))
    return o.scaled, lambda v: o[1].update(rate=v)


MADE = [v for k, v in list(globals().items()) if k.split("_")[0] in ("of", "by") and callable(v)]
assert len(MADE) == 21

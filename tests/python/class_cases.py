"""Ways for a function to read something through classes: what is made, called and found by them. As in
read_cases.py each makes a function and what changes what it reads."""

from tandem import nn

from read_cases import Plain


def in_a_class():
    class Config:
        rate = 1.0

    return lambda x: x * Config.rate, lambda v: setattr(Config, "rate", v)


def in_the_class_of_an_object():
    class Config:
        rate = 1.0

    o = Config()
    return lambda x: x * o.rate, lambda v: setattr(Config, "rate", v)


def in_a_list_of_a_class():
    class Config:
        rates = [1.0]

    return lambda x: x * Config.rates[0], lambda v: Config.rates.__setitem__(0, v)


def by_another_class():
    def of(rate):
        return type("Other", (Plain,), {"rate": rate})

    o = Plain()
    return lambda x: x * o.rate, lambda v: setattr(o, "__class__", of(v))


def by_another_forward():
    class Inner(nn.Module):
        def forward(self, x):
            return x * 1.0

    return (nn.Sequential(Inner()),
            lambda v: setattr(Inner, "forward", lambda self, x: x * v))


def in_an_attribute_of_the_base():
    class Base:
        rate = 1.0

        def scaled(self, x):
            return x * 1.0

    class Own(Base):
        rate = 0.0

        def scaled(self, x):
            return super().scaled(x) * super().rate

    o = Own()
    return lambda x: o.scaled(x), lambda v: setattr(Base, "rate", v)


def by_another_method_of_the_base():
    class Base:
        def scaled(self, x):
            return x * 1.0

    class Own(Base):
        def scaled(self, x):
            return super().scaled(x)

    o = Own()
    return lambda x: o.scaled(x), lambda v: setattr(Base, "scaled", lambda self, x: x * v)


def by_another_special_method():
    class Call:
        def go(self, x):
            return x * 1.0

        __call__ = go

    o = Call()
    return lambda x: o(x), lambda v: setattr(Call, "__call__", lambda self, x: x * v)


def in_a_descriptor_of_its_own():
    class Reads:
        rate = 1.0

        def __get__(self, o, kind):
            return self.rate

    class Holds:
        rate = Reads()

    o = Holds()
    return lambda x: x * o.rate, lambda v: setattr(vars(Holds)["rate"], "rate", v)


def over_a_class_default_of_a_value():
    class Part:
        rate = 1.0

    parts = {"a": Part()}

    def f(x):
        for part in parts.values():
            x = x * part.rate
        return x

    return f, lambda v: setattr(parts["a"], "rate", v)


MADE = [v for k, v in list(globals().items())
        if k.split("_")[0] in ("in", "over", "as", "under", "by") and callable(v)]
assert len(MADE) == 10

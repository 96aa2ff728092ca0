// What capture cannot express is an error that says so, and leaves everything as it was.
#include <gtest/gtest.h>

#include "autograd/autograd.h"
#include "core/backend.h"
#include "core/trace_guard.h"
#include "graph/builder.h"
#include "ops/ops.h"

namespace tandem {
namespace {

/// The message of the E that f throws, checked for each part.
template <class E, class F>
void expect_error(F f, std::initializer_list<const char*> parts) {
  try {
    f();
    // What is wrong with values a device can report only now.
    backend(default_device()).stream(default_device().index).synchronize();
    ADD_FAILURE() << "nothing was thrown; expected " << *parts.begin();
  } catch (const E& e) {
    for (const char* p : parts) {
      EXPECT_NE(std::string(e.what()).find(p), std::string::npos)
          << "'" << p << "' in: " << e.what();
    }
  } catch (const std::exception& e) {
    ADD_FAILURE() << "another error: " << e.what();
  }
  EXPECT_EQ(dispatch::interceptor(), nullptr) << "the capture is still on";
  EXPECT_EQ(trace_guards(), nullptr);
  EXPECT_EQ((ones({2}) + 1).to_vector<int>(), (std::vector<int>{2, 2}));
}

Tensor example() {
  return ones({3});
}

TEST(CaptureErrors, ReadingAValue) {
  expect_error<CaptureError>(
      [] { compile([](const Tensor& x) { return x * sum(x).item(); })(example()); },
      {"[item]", "capture"});
  expect_error<CaptureError>(
      [] { compile([](const Tensor& x) { return x * x.to_vector<float>()[0]; })(example()); },
      {"capture"});
  expect_error<CaptureError>(
      [] { compile([](const Tensor& x) { return x * x.data<float>()[0]; })(example()); },
      {"[data]", "capture"});
}

TEST(CaptureErrors, DataDependentBranch) {
  expect_error<CaptureError>(
      [] {
        compile([](const Tensor& x) { return gt(sum(x), 0).item<bool>() ? x : -x; })(example());
      },
      {"[item]", "capture"});
}

// Eagerly nothing would have been thrown: both captures agree, and both are wrong.
TEST(CaptureErrors, ACaughtRefusalIsNotForgotten) {
  const auto f = [](const Tensor& x) {
    try {
      return x * sum(x).item();
    } catch (const Error&) {
      return x;
    }
  };
  auto fast = compile(f);
  expect_error<CaptureError>([&] { fast(example()); }, {"[compile]", "caught", "[item]"});
  // An error that is thrown in both modes is the function's to catch.
  auto fine = compile([](const Tensor& x) {
    try {
      return x + ones({5});
    } catch (const ShapeError&) {
      return x + 1;
    }
  });
  EXPECT_EQ(fine(example()).to_vector<int>(), (std::vector<int>{2, 2, 2}));
}

TEST(CaptureErrors, StaleSymbolicTensor) {
  Tensor kept;
  auto fast = compile([&](const Tensor& x) {
    kept = x * 2;
    return kept + 1;
  });
  fast(example());
  expect_error<CaptureError>([&] { kept.item(); }, {"[item]"});
  expect_error<CaptureError>([&] { kept + 1; }, {"[capture]", "after its capture ended"});
  expect_error<CaptureError>([&] { kept.to_vector<float>(); }, {"capture"});
}

TEST(CaptureErrors, ValueOfAnotherCapture) {
  graph::Graph a, b;
  const Tensor x = a.variable("x", {2}), y = b.variable("y", {2});
  expect_error<CaptureError>([&] { x + y; }, {"another captured program"});
}

TEST(CaptureErrors, CapturesThatDiffer) {
  int calls = 0;
  expect_error<CaptureError>(
      [&] {
        compile([&](const Tensor& x) { return x * static_cast<double>(++calls); })(example());
      },
      {"[compile]", "two captures", "mul", "test_capture_errors.cpp:", "Guarded"});
  expect_error<CaptureError>(
      [&] { compile([&](const Tensor& x) { return ++calls % 2 ? x + 1 + 1 : x + 1; })(example()); },
      {"two captures", "add"});
  expect_error<CaptureError>(
      [&] {
        compile([&](const Tensor& x) {
          return x + Tensor::from<float>({static_cast<float>(++calls)}, {1});
        })(example());
      },
      {"two captures", "constant"});
  // Equal as doubles.
  const std::int64_t large = std::int64_t{1} << 53;
  expect_error<CaptureError>(
      [&] {
        compile([&](const Tensor& x) {
          return x.to(DType::i64) + Tensor::from<std::int64_t>({large + ++calls % 2}, {1});
        })(example());
      },
      {"two captures", "constant"});
  std::vector<Tensor> pool = {ones({3}), ones({3})};
  expect_error<CaptureError>(
      [&] {
        compile([&](const Tensor& x) { return x + pool[static_cast<std::size_t>(++calls % 2)]; })(
            example());
      },
      {"two captures", "another tensor"});
}

// What changes after the first call and tells nobody.
TEST(CaptureErrors, ChangesAreFoundAtALaterCheck) {
  const Tensor x = ones({3});
  const auto first_error = [&](auto f, const auto& change, const char* expected,
                               int change_at = 6) {
    for (int call = 1; call <= 300; ++call) {
      if (call == change_at) change();
      try {
        f(x);
      } catch (const CaptureError& e) {
        EXPECT_NE(std::string(e.what()).find(expected), std::string::npos) << e.what();
        EXPECT_THROW(f(x), CaptureError) << "it stays wrong";
        return call;
      }
    }
    return 0;
  };
  double factor = 2;
  EXPECT_EQ(first_error(
                compile([&](const Tensor& t) { return t * factor; }), [&] { factor = 3; }, "mul"),
            8);
  Tensor w = full({3}, 2), kept = w;
  const auto with_w = [&](const Tensor& t) { return t * w; };
  EXPECT_EQ(first_error(
                compile(with_w), [&] { w = full({3}, 4); }, "another tensor"),
            8);
  int host = 1;
  const auto returns_host = [&](const Tensor& t) { return std::pair(t * 2, host); };
  EXPECT_EQ(first_error(
                compile(returns_host), [&] { host = 2; }, "host values"),
            8);
  EXPECT_EQ(first_error(
                compile(with_w), [] {}, ""),
            0);
  // However late: within check_interval calls.
  EXPECT_EQ(first_error(
                compile(returns_host), [&] { host = 3; }, "host values", 150),
            256);
  bool flag = false;
  const auto branches = [&](const Tensor& t) { return flag ? t * 2 : t + 2; };
  EXPECT_EQ(first_error(
                compile(branches, {.check_interval = 24}), [&] { flag = true; }, "add", 50),
            72);
  for (int interval : {1, 2, 3}) {
    flag = false;
    EXPECT_EQ(first_error(
                  compile(branches, {.check_interval = interval}), [&] { flag = true; }, "add", 2),
              interval == 1 ? 2 : interval);
  }
  EXPECT_THROW(compile(branches, {.check_interval = 0}), ValueError);
  EXPECT_EQ(first_error(
                compile(returns_host, {.check_capture = false}), [&] { host = 3; }, ""),
            0);
}

TEST(CaptureErrors, TooManySignatures) {
  auto fast = compile([](const Tensor& x) { return x * 2; }, {.max_signatures = 3});
  for (int n = 1; n <= 3; ++n) fast(ones({n}));
  expect_error<CaptureError>([&] { fast(ones({4})); }, {"[compile]", "max_signatures = 3", "f32[3]",
                                                        "-> f32[4]", "first call"});
  EXPECT_EQ(fast(ones({2})).numel(), 2) << "what was there still works";
}

TEST(CaptureErrors, AliasedArguments) {
  auto fast = compile([](Tensor x, const Tensor& y) {
    x.add_(1);
    return x * y;
  });
  fast(ones({4}), ones({4}));
  const Tensor both = ones({8});
  expect_error<CaptureError>([&] { fast(both.slice(0, 0, 4), both.slice(0, 2, 6)); },
                             {"[compile]", "argument 1 shares memory with argument 0", "clone()"});
  EXPECT_EQ(sum(both).item(), 8) << "nothing was written";
  Tensor state = ones({4});
  auto writer = compile([&](const Tensor& x) {
    state.add_(x);
    return state * 1;
  });
  writer(ones({4}));
  expect_error<CaptureError>([&] { writer(state); }, {"shares memory", "tensor the function uses"});
  // Harmless as long as nobody writes.
  auto reader = compile([](const Tensor& x, const Tensor& y) { return x + y; });
  EXPECT_EQ(sum(reader(both, both)).item(), 16);
}

// Memory of somebody else that came in twice.
TEST(CaptureErrors, AliasedByImport) {
  if (!default_device().is_cpu()) GTEST_SKIP() << "memory of the host";
  std::vector<float> memory(8, 1);
  const auto import = [&](std::int64_t from, std::int64_t to) {
    const auto n = static_cast<std::size_t>(to - from);
    return Tensor(make_ref<TensorImpl>(
        Storage::import(memory.data() + from, 4 * n, kCPU, nullptr),
        TensorDesc(DType::f32, kCPU, {to - from}, contiguous_strides(Shape{to - from})), 0));
  };
  auto fast = compile([](Tensor x, const Tensor& y) {
    x.add_(1);
    return x * y;
  });
  expect_error<CaptureError>([&] { fast(import(0, 4), import(2, 6)); },
                             {"argument 1 shares memory with argument 0"});
  fast(import(0, 4), import(4, 8));
  Tensor state = import(0, 4), same = import(0, 4);
  auto writer = compile([&](const Tensor& x) {
    state.add_(x);
    return state * 1;
  });
  expect_error<CaptureError>([&] { writer(import(3, 7)); }, {"tensor the function uses"});
  auto twice = compile([&](const Tensor& x) {
    state.add_(x);
    return same * 1;
  });
  expect_error<CaptureError>([&] { twice(ones({4})); }, {"two tensors", "from outside"});
}

// An array that the function names is imported by each trace, and is the same memory each time.
TEST(CaptureErrors, ImportedByTheFunction) {
  if (!default_device().is_cpu()) GTEST_SKIP() << "memory of the host";
  struct Owner final : MemoryOwner {
    explicit Owner(const bool& forgotten) : forgotten(forgotten) {}
    bool is_forgotten() const override { return forgotten; }
    const bool& forgotten;
  };
  bool forgotten = false;
  std::vector<float> memory(4, 2);
  const auto import = [&] {
    return Tensor(make_ref<TensorImpl>(
        Storage::import(memory.data(), 16, kCPU, RefPtr<RefCounted>(new Owner(forgotten))),
        TensorDesc(DType::f32, kCPU, {4}, contiguous_strides(Shape{4})), 0));
  };
  auto fast = compile([&](const Tensor& x) { return x * import(); });
  EXPECT_EQ(sum(fast(ones({4}))).item(), 8);
  memory.assign(4, 3);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(sum(fast(ones({4}))).item(), 12);
  EXPECT_EQ(fast.core().ledger().size(), 1);
  forgotten = true;
  fast(ones({4}));
  EXPECT_EQ(fast.core().ledger().size(), 2) << "nobody holds the array any more";
  // One from outside is dropped with its last tensor, whoever holds the array.
  forgotten = false;
  Tensor held = import();
  auto other = compile([&](const Tensor& x) { return x * held; });
  other(ones({4}));
  held = import();
  other(ones({4}));
  EXPECT_EQ(other.core().ledger().size(), 2);
  // Made anew each time, it is none that replay could read.
  std::vector<std::vector<float>> many;
  auto maker = compile([&](const Tensor& x) {
    many.emplace_back(4, 1.0f);
    return x * Tensor(make_ref<TensorImpl>(
                   Storage::import(many.back().data(), 16, kCPU, nullptr),
                   TensorDesc(DType::f32, kCPU, {4}, contiguous_strides(Shape{4})), 0));
  });
  expect_error<CaptureError>([&] { maker(ones({4})); }, {"another tensor each time"});
}

TEST(CaptureErrors, AliasedAtTheFirstCall) {
  Tensor both = ones({8});
  auto fast = compile([](Tensor x, const Tensor& y) {
    x.add_(1);
    return x * y;
  });
  expect_error<CaptureError>([&] { fast(both.slice(0, 0, 4), both.slice(0, 2, 6)); },
                             {"shares memory"});
}

TEST(CaptureErrors, BackwardFromOutside) {
  Tensor w = ones({3});
  w.set_requires_grad();
  auto fast = compile([&](const Tensor& x) { return sum(x * w); });
  const Tensor loss = fast(example());
  EXPECT_TRUE(loss.requires_grad()) << "as it is eagerly";
  expect_error<AutogradError>([&] { loss.backward(); },
                              {"[compile]", "inside the compiled function"});
}

TEST(CaptureErrors, GradientOfAnArgument) {
  Tensor x = ones({3});
  x.set_requires_grad();
  auto fast = compile([](const Tensor& in) {
    const Tensor l = sum(in * in);
    l.backward();
    return l;
  });
  expect_error<CaptureError>([&] { fast(x); }, {"[compile]", ".grad", "autograd::grad"});
}

TEST(CaptureErrors, Others) {
  expect_error<ValueError>([] { compile([](const Tensor& x) { return x; }, {.without = {"cze"}}); },
                           {"[pass]", "no such pass", "cze", "cse", "dce", "fuse"});
  expect_error<ValueError>(
      [] { compile([](const Tensor& x) { return x; }, {.max_signatures = 0}); },
      {"[compile]", "max_signatures", "0"});
  expect_error<ValueError>([] { graph::find_pass("none"); }, {"[pass]", "no such pass"});
  auto fast = compile([](const Tensor& x) { return x; });
  expect_error<ValueError>([&] { fast(Tensor{}); }, {"[compile]", "argument 0 is undefined"});
  expect_error<ValueError>([&] { fast.dump(); }, {"[compile]", "not been called"});
  expect_error<CaptureError>([] { compile([](const Tensor&) { return Tensor{}; })(example()); },
                             {"[compile]", "result 0 is an undefined tensor"});
  expect_error<CaptureError>(
      [] {
        compile([](const Tensor& x) {
          manual_seed(3);
          return x;
        })(example());
      },
      {"[seed]", "capture"});
  // An op's own error comes through, with the user's line.
  expect_error<ShapeError>(
      [] { compile([](const Tensor& x) { return x + ones({2}); })(example()); },
      {"[add]", "[3] and [2]", "test_capture_errors.cpp:"});
}

TEST(CaptureErrors, LabelsAreCheckedAtReplayToo) {
  auto fast = compile([](const Tensor& x, const Tensor& t) { return nll_loss(x, t); });
  const Tensor x = zeros({2, 3});
  fast(x, Tensor::from<std::int64_t>({0, 2}, {2}));
  const auto replay = [&] { fast(x, Tensor::from<std::int64_t>({0, 3}, {2})).to_vector<float>(); };
  if (default_device().is_cpu()) {
    expect_error<IndexError>(replay, {"[nll_loss]", "3", "(at test_capture_errors.cpp:"});
  } else {  // found later, by a kernel that knows its own name only
    expect_error<IndexError>(replay, {"[nll]", "3"});
  }
  EXPECT_EQ(fast(x, Tensor::from<std::int64_t>({0, 1}, {2})).item(), 0) << "and it works again";
}

TEST(BuilderErrors, Feeds) {
  graph::Graph g;
  const Tensor a = g.variable("a", {2, 3}), b = g.variable("b", {3});
  expect_error<ValueError>([&] { g.variable("a", {1}); }, {"[variable]", "'a'"});
  expect_error<ValueError>([&] { g.variable("", {1}); }, {"[variable]"});
  expect_error<ShapeError>([&] { g.variable("c", {-1}); }, {"[variable]", "[-1]"});
  auto f = g.compile(a * b);
  const Tensor x = ones({2, 3}), y = ones({3});
  EXPECT_EQ(f({{"a", x}, {"b", y}}).shape(), (Shape{2, 3}));
  expect_error<ValueError>([&] { f({{"a", x}}); }, {"[graph]", "'b'", "f32[3]"});
  expect_error<ValueError>([&] { f({{"a", x}, {"b", Tensor{}}}); }, {"[graph]", "'b'"});
  expect_error<ValueError>([&] { f({{"a", x}, {"b", y}, {"z", y}}); }, {"[graph]", "'z'", "a, b"});
  expect_error<ShapeError>(
      [&] {
        f({{"a", y}, {"b", y}});
      },
      {"[graph]", "'a'", "f32[3]", "f32[2, 3]"});
  expect_error<TypeError>(
      [&] {
        f({{"a", x.to(DType::f64)}, {"b", y}});
      },
      {"[graph]", "f64[2, 3]"});
  expect_error<ShapeError>([&] { f({{"a", ones({3, 2}).t()}, {"b", y}}); }, {"[graph]", "layout"});
  auto two = g.compile(std::vector{a + 1, b + 1});
  expect_error<ValueError>([&] { two({{"a", x}, {"b", y}}); }, {"[graph]", "2", "run()"});
  expect_error<CaptureError>([&] { a.item(); }, {"[item]"});
}

}  // namespace
}  // namespace tandem

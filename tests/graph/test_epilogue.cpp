// The passes that put a ReLU (and a sum) into the kernel in front: what they take, what they leave,
// and that the exact one keeps every bit, those of NaN, infinities and signed zeros included.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "autograd/autograd.h"
#include "graph/compile.h"
#include "graph/executor.h"
#include "graph/tracer.h"
#include "nn/nn.h"
#include "ops/conv.h"
#include "ops/op_list.h"
#include "tests/op_cases.h"

namespace tandem::graph {
namespace {

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

Program capture(const std::vector<TensorDesc>& descs, const Function& f) {
  RefPtr<Tracer> tracer(new Tracer);
  std::vector<Tensor> in;
  for (const TensorDesc& d : descs) in.push_back(tracer->input(d));
  const CaptureScope scope(*tracer);
  return tracer->finish(std::vector{f(in)});
}
TensorDesc desc(const Shape& s, DType t = DType::f32) {
  return {t, default_device(), s};
}

int count(const Program& p, std::string_view op) {
  return static_cast<int>(std::count_if(p.nodes.begin(), p.nodes.end(),
                                        [&](const Node& n) { return n.op().name == op; }));
}
Program after(Program (*pass)(const Program&, PassStats&), const Program& p, int changed) {
  PassStats s;
  Program out = pass(p, s);
  EXPECT_EQ(s.changed, changed) << dump(p) << "->\n" << dump(out);
  EXPECT_EQ(out.nodes.size(), p.nodes.size() - static_cast<std::size_t>(changed));
  EXPECT_NO_THROW(verify(out, "test"));
  return out;
}
void expect_left_alone(const std::vector<TensorDesc>& descs, const Function& f) {
  const Program p = capture(descs, f);
  after(fuse_epilogues, p, 0);
  after(fuse_vendor_epilogues, p, 0);
}

Tensor normalised(const Tensor& x, bool training = true) {
  Tensor none;
  if (training) return batch_norm(x, {}, {}, none, none, true);
  Tensor mean = full({x.dim(1)}, 0.5), var = full({x.dim(1)}, 2);
  return batch_norm(x, {}, {}, mean, var, false);
}

// ---------------------------------------------------------------------------- what is taken

TensorDesc image() {
  return desc({2, 3, 4, 5});
}

TEST(Epilogue, TakesTheReluOfEachLayer) {
  const PolicyScope plain({.vendor = false});
  struct Layer {
    const char* op;
    Function f;
  };
  for (const Layer& l : std::initializer_list<Layer>{
           {"batch_norm_train", [](auto& in) { return relu(normalised(in[0])); }},
           {"batch_norm_eval", [](auto& in) { return relu(normalised(in[0], false)); }},
           {"conv2d", [](auto& in) { return relu(conv2d(in[0], in[1])); }},
           {"linear", [](auto& in) { return relu(linear(in[0], in[2])); }}}) {
    const Program p = capture({image(), desc({4, 3, 2, 2}), desc({6, 5})}, l.f);
    ASSERT_EQ(count(p, "relu"), 1);
    const Program out = after(fuse_epilogues, p, 1);
    EXPECT_EQ(count(out, "relu"), 0) << l.op;
    const Node& n = out.nodes.back();
    EXPECT_STREQ(n.op().name, l.op);
    EXPECT_EQ(n.outputs[0], p.outputs[0]) << "values keep their names";
    EXPECT_NE(n.call->attrs.str().find("relu=true"), std::string::npos) << n.call->attrs.str();
    EXPECT_STREQ(n.passes.back(), "epilogue");
  }
}

TEST(Epilogue, TakesASumBehindBatchNorm) {
  for (const bool training : {true, false}) {
    for (const bool first : {true, false}) {
      const Program p = capture({image(), image()}, [&](auto& in) {
        const Tensor y = normalised(in[0], training);
        return relu(first ? y + in[1] : in[1] + y);
      });
      const Program out = after(fuse_epilogues, p, 2);
      EXPECT_EQ(count(out, "add") + count(out, "relu"), 0);
      EXPECT_EQ(out.nodes.back().inputs.back(), out.inputs[1]);
    }
  }
}

TEST(Epilogue, OfTwoLayersThatMeetTakesTheLater) {
  const Program p = capture({image(), image()}, [](auto& in) {
    const Tensor a = normalised(in[0]), b = normalised(in[1]);
    return relu(a + b);
  });
  const Program out = after(fuse_epilogues, p, 2);
  EXPECT_EQ(out.nodes.back().inputs[0], out.inputs[1]) << dump(out);
}

TEST(Epilogue, StaysWhereTheLayerStood) {
  // The running statistics are read between the layer and its ReLU.
  Tensor mean = zeros({3}), var = ones({3});
  const Program p = capture({image()}, [&](auto& in) {
    const Tensor y = batch_norm(in[0], {}, {}, mean, var, true);
    const Tensor now = exp(mean);
    mean.mul_(0.5);
    return relu(y).sum() + now.sum();
  });
  const Program out = after(fuse_epilogues, p, 1);
  EXPECT_EQ(out.effects, p.effects);
}

TEST(Epilogue, LetsTheReluBeReadByMany) {
  const Program p = capture({image()}, [](auto& in) {
    const Tensor y = relu(normalised(in[0]));
    return exp(y) + y.sum();
  });
  after(fuse_epilogues, p, 1);
}

TEST(Epilogue, TakesTheNetsApartAsExpected) {
  const auto of = [](const nn::Module& net, const Shape& s) {
    const Tensor x = Tensor::empty(desc(s));
    auto f = compile([&](const Tensor& t) {
      Tensor loss = net(t).sum();
      loss.backward();
      return loss;
    });
    f(x);
    const auto& passes = f.core().program().passes;
    const auto r = std::find_if(passes.begin(), passes.end(),
                                [](const PassReport& q) { return q.name == "epilogue"; });
    return r == passes.end() ? -1 : r->stats.changed;
  };
  // A stem, and in each of two blocks one ReLU between and one with the sum. Backward the mask
  // between, and that of the last block, whose gradient is not a sum.
  EXPECT_EQ(of(models::resnet({.blocks = {1, 1}, .classes = 3, .width = 4, .small_input = true}),
               {2, 3, 8, 8}),
            1 + 2 * (1 + 2) + 2);
  // Those of the convolutions stand behind the pooling by then.
  const PolicyScope plain({.vendor = false});
  EXPECT_EQ(of(models::lenet(), {2, 1, 28, 28}), 1);
}

// A ReLU's gradient in front of batch norm's: the mask, what it masks with, x.
struct MaskedNorm {
  Tensor g, gx;
};
MaskedNorm masked_norm(const Tensor& gy, const Tensor& y, const Tensor& x) {
  const DType param = is_low_precision(x.dtype()) ? DType::f32 : x.dtype();
  const Tensor c = ones({x.dim(1)}, {.dtype = param}), g = relu_grad(gy, y);
  return {g, batch_norm_grad(g, x, c, c, c).x};
}

TEST(Epilogue, MasksTheGradientThatBatchNormsReads) {
  const Program p = capture({image(), image(), image()},
                            [](auto& in) { return masked_norm(in[0], in[1], in[2]).gx; });
  const Program out = after(fuse_epilogues, p, 1);
  const Node& n = out.nodes.back();
  EXPECT_STREQ(n.op().name, "batch_norm_grad");
  EXPECT_EQ(n.call->attrs.str(), "relu=true, residual=false");
  EXPECT_EQ(n.inputs.front(), out.inputs[0]);
  EXPECT_EQ(n.inputs.back(), out.inputs[1]);
  EXPECT_EQ(n.outputs[0], p.outputs[0]) << "values keep their names";
  EXPECT_EQ(n.outputs.size(), 3U);
  EXPECT_STREQ(n.passes.back(), "epilogue");
  after(fuse_epilogues, out, 0);
}

TEST(Epilogue, GivesTheMaskedGradientToOthers) {
  const auto expect = [](const Function& f) {
    const Program p = capture({image(), image(), image()}, f);
    const Program out = after(fuse_epilogues, p, 1);
    EXPECT_EQ(count(out, "relu_grad"), 0) << dump(out);
    for (const Node& n : out.nodes) {
      if (&n.op() != &op::batch_norm_grad || n.inputs.size() == 5) continue;
      EXPECT_EQ(n.call->attrs.str(), "relu=true, residual=true");
      EXPECT_EQ(n.outputs.size(), 4U);
    }
  };
  expect([](auto& in) {
    const MaskedNorm m = masked_norm(in[0], in[1], in[2]);
    return m.gx + m.g;
  });
  expect([](auto& in) {  // read before batch norm's gradient reads it
    const Tensor c = ones({3}), g = relu_grad(in[0], in[1]), e = exp(g);
    return batch_norm_grad(g, in[2], c, c, c).x + e;
  });
  expect([](auto& in) {  // of two batch norms, the first
    const MaskedNorm m = masked_norm(in[0], in[1], in[2]);
    const Tensor c = ones({3});
    return m.gx + batch_norm_grad(m.g, in[1], c, c, c).x;
  });
  RefPtr<Tracer> tracer(new Tracer);
  const Tensor x = tracer->input(image());
  const CaptureScope scope(*tracer);
  const MaskedNorm m = masked_norm(x, x, x);
  after(fuse_epilogues, tracer->finish(std::vector{m.g, m.gx}), 1);  // one is a result
}

TEST(Epilogue, LeavesAMaskBehindASumToTheElementwisePass) {
  const auto of = [](const Tensor& gy, const Tensor& y, const Tensor& x) {
    return masked_norm(gy, y, x).gx;
  };
  expect_left_alone({image(), image(), image()},
                    [&](auto& in) { return of(in[0] + in[2], in[1], in[2]); });
  // That one would not take this sum: somebody else reads it.
  const Program p = capture({image(), image(), image()}, [&](auto& in) {
    const Tensor s = in[0] + in[2];
    return of(s, in[1], in[2]) + s;
  });
  after(fuse_epilogues, p, 1);
}

TEST(Epilogue, LeavesMasksThatItCannotMove) {
  expect_left_alone({image(), image(), image()}, [](auto& in) {  // the mean is not there yet
    const Tensor g = relu_grad(in[0], in[1]), c = ones({3}), mean = in[2].mean({0, 2, 3});
    return batch_norm_grad(g, in[2], c, mean, c).x;
  });
  expect_left_alone({image(), image(), image()}, [](auto& in) {
    const Tensor c = ones({3}), g = relu_grad(in[0], in[1]);
    return batch_norm_grad(flip(g, {3}), in[2], c, c, c).x;
  });
  expect_left_alone({image(), image(), image()}, [](auto& in) {  // its x only
    const Tensor c = ones({3}), g = relu_grad(in[0], in[1]);
    return batch_norm_grad(in[2], g, c, c, c).x;
  });
  TensorDesc last = image();
  last.strides = channels_last_strides(last.shape);
  expect_left_alone({image(), last, image()},
                    [](auto& in) { return masked_norm(in[0], in[1], in[2]).gx; });
  expect_left_alone({image(), desc({1, 3, 4, 5}), image()},
                    [](auto& in) { return masked_norm(in[0], in[1], in[2]).gx; });
}

// ---------------------------------------------------------------------------- what is left

TEST(Epilogue, LeavesWhatSomebodyElseReads) {
  expect_left_alone({image()}, [](auto& in) {
    const Tensor y = normalised(in[0]);
    return relu(y) + exp(y);
  });
  expect_left_alone({image()}, [](auto& in) {
    const Tensor y = normalised(in[0]);
    return relu(y.reshape({-1}));  // a view
  });
  expect_left_alone({image(), image()}, [](auto& in) {
    const Tensor y = normalised(in[0]) + in[1];
    return relu(y) * y;
  });
  expect_left_alone({image()}, [](auto& in) {
    const Tensor y = normalised(in[0]);
    return relu(y + y);
  });
}

TEST(Epilogue, LeavesResults) {
  RefPtr<Tracer> tracer(new Tracer);
  const Tensor x = tracer->input(image());
  const CaptureScope scope(*tracer);
  const Tensor y = normalised(x), z = normalised(x) + x;
  const Program p = tracer->finish(std::vector{y, relu(y), z, relu(z)});
  PassStats s;
  EXPECT_EQ(fuse_epilogues(p, s).nodes.size(), p.nodes.size());
}

TEST(Epilogue, LeavesWhatIsWrittenInPlace) {
  expect_left_alone({image(), image()}, [](auto& in) {
    Tensor y = normalised(in[0]);
    y.add_(in[1]);
    return relu(y);
  });
  expect_left_alone({image()}, [](auto& in) {
    Tensor y = normalised(in[0]);
    y.mul_(2);
    return relu(y);
  });
}

TEST(Epilogue, LeavesOtherTypesShapesAndOperations) {
  const PolicyScope plain({.vendor = false});
  expect_left_alone({image()}, [](auto& in) { return relu(normalised(in[0]).to(DType::f64)); });
  expect_left_alone({image(), desc({3, 1, 1})},
                    [](auto& in) { return relu(normalised(in[0]) + in[1]); });
  expect_left_alone({image(), desc({2, 2, 3, 4, 5})},
                    [](auto& in) { return relu(normalised(in[0]) + in[1]); });
  expect_left_alone({image(), desc({2, 3, 4, 5}, DType::f64)},
                    [](auto& in) { return relu(normalised(in[0]) + in[1]); });
  TensorDesc last = image();
  last.strides = channels_last_strides(last.shape);
  expect_left_alone({image(), last}, [](auto& in) { return relu(normalised(in[0]) + in[1]); });
  expect_left_alone({image()}, [](auto& in) { return relu(normalised(in[0]) + 1.0); });
  expect_left_alone({image()}, [](auto& in) { return tanh(normalised(in[0])); });
  expect_left_alone({image(), desc({3, 3, 1, 1}), image()},
                    [](auto& in) { return relu(conv2d(in[0], in[1]) + in[2]); });
  expect_left_alone({desc({4, 4})}, [](auto& in) { return relu(matmul(in[0], in[0])); });
}

TEST(Epilogue, LeavesASumThatIsNotThereYet) {
  expect_left_alone({image()}, [](auto& in) {
    const Tensor y = normalised(in[0]);
    return relu(y + exp(in[0]));
  });
}

TEST(Epilogue, LeavesItsOwnWork) {
  const Program once = after(
      fuse_epilogues, capture({image()}, [](auto& in) { return relu(normalised(in[0])); }), 1);
  after(fuse_epilogues, once, 0);
  const Program twice =
      after(fuse_epilogues,
            capture({image()}, [](auto& in) { return relu(relu(normalised(in[0]))); }), 1);
  after(fuse_epilogues, twice, 0);
}

// --------------------------------------------------------------------- the vendors' kernels

constexpr auto any_plan = [](const Plan&) { return true; };

/// What two programs make of the same arguments differs by no more than rounding; what they write
/// into the arguments, too.
void expect_close(const Program& a, const Program& b, const std::vector<Tensor>& args) {
  std::vector<Tensor> results[2];
  for (const Program* p : {&a, &b}) {
    std::vector<Tensor> own;
    std::vector<const Tensor*> pointers;
    for (const Tensor& t : args) own.push_back(t.clone());
    for (const Tensor& t : own) pointers.push_back(&t);
    std::vector<Tensor>& r = results[p == &b];
    r = Executor(*p, {}).run(pointers);
    r.insert(r.end(), own.begin(), own.end());
  }
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    const double off = max(abs(results[0][i] - results[1][i])).item<double>();
    EXPECT_LE(off, 1e-5) << "result or argument " << i << "\n" << dump(b);
  }
}

TEST(Epilogue, HasTheConvolutionSumUpForABatchNorm) {
  manual_seed(4);
  const Tensor w = randn({6, 3, 3, 3}), x = randn({4, 3, 9, 9});
  const auto program = [&](bool running) {
    return capture({x.desc(), w.desc(), desc({6}), desc({6})}, [&](auto& in) {
      Tensor mean, var;
      if (running) mean = in[2], var = in[3];
      return relu(batch_norm(conv2d(in[0], in[1]), {}, {}, mean, var, true));
    });
  };
  for (const bool running : {false, true}) {
    const Program p = program(running);
    PassStats s;
    const Program out = fuse_sums(p, s, any_plan);
    EXPECT_EQ(s.changed, 1);
    EXPECT_NO_THROW(verify(out, "test")) << dump(out);
    EXPECT_EQ(out.nodes.size(), p.nodes.size());
    EXPECT_EQ(count(out, "batch_norm_train"), 1);
    for (const Node& n : out.nodes) {
      if (n.op().name == std::string_view("conv2d")) {
        EXPECT_TRUE(n.call->attrs.as<ConvAttrs>().sums);
        EXPECT_EQ(n.outputs.size(), 3u);
      }
    }
    // What has its sums asks for none, and what must not be asked is left alone.
    PassStats again;
    EXPECT_EQ(fuse_sums(out, again, any_plan).nodes.size(), p.nodes.size());
    EXPECT_EQ(again.changed, 0);
    EXPECT_EQ(hash(fuse_sums(p, again, [](const Plan&) { return false; })), hash(p));
    // The ReLU is taken in after that, too.
    PassStats tail;
    const Program all = fuse_epilogues(out, tail);
    EXPECT_EQ(tail.changed, 1);
    EXPECT_NO_THROW(verify(all, "test")) << dump(all);
    const std::vector<Tensor> args = {x, w, rand({6}), rand({6})};
    expect_close(p, out, args);
    expect_close(p, all, args);
  }
  // As the passes come: what is behind the norm is part of it already.
  const Program residual =
      capture({x.desc(), w.desc(), desc({6}), desc({6}), desc({4, 6, 7, 7})}, [&](auto& in) {
        Tensor mean = in[2], var = in[3];
        return relu(batch_norm(conv2d(in[0], in[1]), {}, {}, mean, var, true) + in[4]);
      });
  PassStats tail, sums;
  const Program out = fuse_sums(fuse_epilogues(residual, tail), sums, any_plan);
  EXPECT_EQ(tail.changed, 2);
  EXPECT_EQ(sums.changed, 1);
  EXPECT_NO_THROW(verify(out, "test")) << dump(out);
  expect_close(residual, out, {x, w, rand({6}), rand({6}), randn({4, 6, 7, 7})});
  // Those who do not normalise with the statistics of the batch need no sums.
  PassStats s;
  fuse_sums(capture({x.desc(), w.desc()},
                    [](auto& in) { return normalised(conv2d(in[0], in[1]), false); }),
            s, any_plan);
  EXPECT_EQ(s.changed, 0);
}

TEST(Epilogue, HasTheConvolutionNormaliseWhatItReads) {
  const std::vector<TensorDesc> in = {desc({4, 3, 9, 9}), desc({6, 3, 3, 3}), desc({6})};
  const auto program = [&](const Function& f) {
    PassStats s;
    return fuse_epilogues(capture(in, f), s);
  };
  const auto changed = [](const Program& p) {
    PassStats s;
    EXPECT_NO_THROW(verify(fuse_norms(p, s, any_plan), "test"));
    return s.changed;
  };
  const auto plain = [](auto& in) {
    Tensor mean = full({3}, 0.5), var = full({3}, 2);
    const Tensor weight = full({3}, 1.5), bias = full({3}, 0.25);
    return conv2d(relu(batch_norm(in[0], weight, bias, mean, var, false, 0.1, 0.3)), in[1], in[2]);
  };
  const Program p = program(plain);
  PassStats s;
  const Program out = fuse_norms(p, s, any_plan);
  EXPECT_EQ(s.changed, 1);
  EXPECT_NO_THROW(verify(out, "test")) << dump(out);
  EXPECT_EQ(count(out, "batch_norm_eval"), 0);
  EXPECT_EQ(out.nodes.size() + 1, p.nodes.size());
  for (const Node& n : out.nodes) {
    if (n.op().name == std::string_view("conv2d")) {
      EXPECT_EQ(n.inputs.size(), 7u);
    }
  }
  EXPECT_EQ(changed(out), 0);
  manual_seed(5);
  expect_close(p, out, {randn({4, 3, 9, 9}), randn({6, 3, 3, 3}), randn({6})});
  PassStats none;
  EXPECT_EQ(hash(fuse_norms(p, none, [](const Plan&) { return false; })), hash(p));

  EXPECT_EQ(changed(program([](auto& in) { return conv2d(normalised(in[0], false), in[1]); })), 0)
      << "without a ReLU";
  EXPECT_EQ(changed(program([](auto& in) { return conv2d(relu(normalised(in[0], true)), in[1]); })),
            0)
      << "in training";
  EXPECT_EQ(changed(program([](auto& in) {
              const Tensor y = relu(normalised(in[0], false));
              return sum(conv2d(y, in[1])) + sum(y);
            })),
            0)
      << "read elsewhere, too";
  EXPECT_EQ(changed(program(
                [](auto& in) { return conv2d(relu(normalised(in[0], false) + in[0]), in[1]); })),
            0)
      << "with a residual";
  EXPECT_EQ(changed(program([](auto& in) {
              Tensor mean = full({3}, 0.5), var = full({3}, 2);
              const Tensor y = relu(batch_norm(in[0], {}, {}, mean, var, false));
              mean.add_(1);
              return sum(conv2d(y, in[1])) + sum(mean);
            })),
            0)
      << "what it normalises with is written before it would be read";
}

TEST(Epilogue, OfAVendorIsTheOtherPasssWork) {
  const Program p = capture({desc({8, 16, 9, 9}), desc({16, 16, 3, 3}), desc({16})},
                            [](auto& in) { return relu(conv2d(in[0], in[1], in[2])); });
  if (p.nodes[0].call->plan->epilogue == Exactness::exact) {
    GTEST_SKIP() << "no vendor's kernel: " << p.nodes[0].call->plan->name;
  }
  after(fuse_epilogues, p, 0);
  const Program out = after(fuse_vendor_epilogues, p, 1);
  EXPECT_STREQ(out.nodes[0].passes.back(), "vendor_epilogue");
  EXPECT_EQ(find_pass("vendor_epilogue").exactness, Exactness::approximate);

  manual_seed(3);
  for (const DType t : {DType::f32, DType::bf16}) {
    const Tensor x = randn({8, 16, 9, 9}).to(t), w = randn({16, 16, 3, 3}).to(t),
                 b = randn({16}).to(t), v = randn({16, 16 * 81}).to(t);
    const auto f = [](const Tensor& x, const Tensor& w, const Tensor& b, const Tensor& v) {
      return std::vector{relu(conv2d(x, w, b)), relu(linear(x.reshape({8, -1}), v, b))};
    };
    auto fast = compile(f, {.fast = true});
    const auto got = fast(x, w, b, v), want = f(x, w, b, v);
    for (std::size_t k = 0; k < got.size(); ++k) {
      const double off = max(abs(got[k].to(DType::f64) - want[k].to(DType::f64))).item<double>();
      const double most = max(abs(want[k].to(DType::f64))).item<double>();
      EXPECT_LE(off, most * (t == DType::f32 ? 1e-6 : 8e-3)) << name_of(t) << " result " << k;
    }
  }
}

// -------------------------------------------------------------------------------- every bit

/// Random values, one in eight of them one that kernels like to treat wrongly.
Tensor peculiar(const Shape& s, DType t, std::uint64_t seed) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  constexpr double values[] = {
      std::numeric_limits<double>::quiet_NaN(), -0.0, 0.0, inf, -inf, 1e-40, -1e-40, 60000};
  Generator g(seed);
  std::vector<double> v = randn(s, {}, &g).to_vector<double>();
  const auto which = randint(0, 64, s, {.dtype = DType::i64}, &g).to_vector<std::int64_t>();
  for (std::size_t i = 0; i < v.size(); ++i) {
    if (which[i] < 8) v[i] = values[which[i]];
  }
  return Tensor::from<double>(v, s).to(default_device()).to(t);
}

TEST(Epilogue, KeepsEveryBit) {
  std::uint64_t seed = 1;
  int taken = 0;
  for (const DType t : {DType::f32, DType::bf16, DType::f16, DType::f64}) {
    const DType param = is_low_precision(t) ? DType::f32 : t;
    for (const Shape& s : {Shape{3, 5, 7, 6}, Shape{1, 16, 9, 3}, Shape{2, 1, 1, 5}}) {
      for (const bool vendor : {true, false}) {
        for (const bool last : {true, false}) {
          const PolicyScope policy({.vendor = vendor});
          const MemoryFormat format = last ? MemoryFormat::channels_last : MemoryFormat::contiguous;
          const Tensor x = peculiar(s, t, ++seed).to(format), z = peculiar(s, t, ++seed).to(format);
          // Not a NaN for every result.
          const Tensor w = randn({4, s[1], 1, 2}).to(t), v = randn({6, s[3]}).to(t),
                       b = peculiar({4}, t, ++seed), u = randn(s).to(t).to(format);
          const auto f = [&](const Tensor& x, const Tensor& z) {
            Tensor mean = zeros({s[1]}, {.dtype = param}), var = ones({s[1]}, {.dtype = param});
            Tensor none;
            const auto bn = [&](const Tensor& of, bool training) {
              return training ? batch_norm(of, {}, {}, none, none, true)
                              : batch_norm(of, {}, {}, mean, var, false);
            };
            const Tensor flat = batch_norm(z, {}, {}, mean, var, true);
            const MaskedNorm masked = masked_norm(u, z, x), passed = masked_norm(u, x, u),
                             odd = masked_norm(z, x, u);
            return std::vector{relu(bn(x, false)),
                               relu(bn(x, false) + z),
                               relu(bn(abs(z), true)),
                               relu(z + bn(x, true)),
                               relu(conv2d(x, w, b)),
                               relu(conv2d(x, w)),
                               relu(linear(x, v)),
                               masked.gx,
                               passed.gx,
                               passed.g,
                               odd.gx,
                               relu(flat + x),
                               mean * 1,
                               var * 1};
          };
          auto compiled = compile(f);
          const auto got = compiled(x, z), want = f(x, z);
          for (const PassReport& r : compiled.core().program().passes) {
            if (r.name == "epilogue") taken += r.stats.changed;
          }
          for (std::size_t k = 0; k < got.size(); ++k) {
            ASSERT_EQ(cases::compare_bits(got[k], want[k]), "")
                << "result " << k << ", " << x.desc().str() << (last ? ", channels last" : "")
                << ", vendor " << vendor << "\n"
                << compiled.dump();
          }
        }
      }
    }
  }
  EXPECT_GE(taken, 4 * 3 * 2 * 2 * 11);
}

}  // namespace
}  // namespace tandem::graph

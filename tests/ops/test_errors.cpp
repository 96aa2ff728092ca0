// Bad calls: each gives the error of the right kind, whose message names the operation, the rule,
// what it got and (where that is not the same) what it expected.
#include <gtest/gtest.h>

#include <functional>

#include "autograd/autograd.h"
#include "core/backend.h"
#include "core/dispatch.h"
#include "ops/op_list.h"
#include "ops/ops.h"

namespace tandem {
namespace {

Tensor f(const Shape& s) {
  return ones(s);
}
Tensor ints(const Shape& s) {
  return ones(s, {.dtype = DType::i64});
}
Tensor labels(std::initializer_list<std::int64_t> v) {
  return Tensor::from<std::int64_t>(v, {static_cast<std::int64_t>(v.size())});
}
Tensor leaf(const Shape& s) {
  return f(s).set_requires_grad();
}

/// Slots of parameters: as many tensors of their shapes.
std::vector<Tensor> slots(const std::vector<Tensor>& parameters) {
  std::vector<Tensor> v;
  for (const Tensor& p : parameters) v.push_back(zeros_like(p));
  return v;
}

struct Bad {
  const char* name;
  std::function<void()> call;
  std::vector<const char*> parts;  // of the message
  std::function<bool(const std::exception&)> is_right_class;
};

template <class E>
Bad bad(const char* name, std::function<void()> call, std::vector<const char*> parts) {
  return {name, std::move(call), std::move(parts),
          [](const std::exception& e) { return dynamic_cast<const E*>(&e) != nullptr; }};
}

const std::vector<Bad>& table() {
  static const std::vector<Bad> t = {
      // shapes
      bad<ShapeError>("add",
                      [] {
                        f({2, 3}) + f({4});
                      },
                      {"[add]", "broadcast", "[2, 3] and [4]"}),
      bad<ShapeError>("where", [] { where(gt(f({2}), 0), f({3}), f({2})); },
                      {"[where]", "broadcast", "got"}),
      bad<ShapeError>("matmul",
                      [] {
                        matmul(f({2, 3}), f({4, 5}));
                      },
                      {"[matmul]", "last axis", "got", "[2, 3]", "[4, 5]"}),
      bad<ShapeError>("matmul_scalar", [] { matmul(f({}), f({2})); },
                      {"[matmul]", "at least one axis"}),
      bad<ShapeError>("matmul_batch",
                      [] {
                        matmul(f({2, 3, 4}), f({3, 4, 5}));
                      },
                      {"[matmul]", "broadcast"}),
      bad<ShapeError>("linear",
                      [] {
                        linear(f({2, 3}), f({5, 4}));
                      },
                      {"[linear]", "got [2, 3]", "expected"}),
      bad<ShapeError>("linear_bias",
                      [] {
                        linear(f({2, 3}), f({5, 3}), f({4}));
                      },
                      {"[linear]", "f32[4]", "expected"}),
      bad<ShapeError>("conv_rank",
                      [] {
                        conv2d(f({3, 4, 4}), f({2, 3, 3, 3}));
                      },
                      {"[conv2d]", "rank", "f32[3, 4, 4]"}),
      bad<ShapeError>("conv_channels",
                      [] {
                        conv2d(f({1, 4, 8, 8}), f({2, 3, 3, 3}));
                      },
                      {"[conv2d]", "channels", "got 4", "3"}),
      bad<ShapeError>("conv_groups",
                      [] {
                        conv2d(f({1, 4, 8, 8}), f({3, 2, 3, 3}), {}, {.groups = 2});
                      },
                      {"[conv2d]", "divisible by groups"}),
      bad<ShapeError>("conv_kernel",
                      [] {
                        conv2d(f({1, 1, 3, 3}), f({1, 1, 5, 5}));
                      },
                      {"[conv2d]", "kernel must fit"}),
      bad<ShapeError>("conv_bias",
                      [] {
                        conv2d(f({1, 1, 3, 3}), f({2, 1, 3, 3}), f({3}));
                      },
                      {"[conv2d]", "bias", "f32[3]"}),
      bad<ShapeError>("conv_options",
                      [] {
                        conv2d(f({1, 1, 3, 3}), f({1, 1, 3, 3}), {}, {.stride = {1, 1, 1}});
                      },
                      {"[conv2d]", "stride", "[1, 1, 1]"}),
      bad<ShapeError>("conv_transpose",
                      [] {
                        conv_transpose2d(f({1, 2, 3, 3}), f({3, 2, 3, 3}));
                      },
                      {"[conv_transpose2d]", "channels", "got 2", "expected 3"}),
      bad<ShapeError>("pool_rank",
                      [] {
                        max_pool2d(f({3, 3}), {.kernel = {2, 2}});
                      },
                      {"[max_pool2d]", "rank"}),
      bad<ShapeError>("pool_kernel",
                      [] {
                        avg_pool2d(f({1, 1, 2, 2}), {.kernel = {3, 3}});
                      },
                      {"[avg_pool2d]", "kernel must fit"}),
      bad<ShapeError>("pool_of_nothing",
                      [] {
                        max_pool2d(f({1, 1, 0, 4}), {.kernel = {2}, .padding = {1}});
                      },
                      {"[max_pool2d]", "has elements"}),
      bad<ShapeError>("pool_padding",
                      [] {
                        max_pool2d(f({1, 1, 4, 4}), {.kernel = {2, 2}, .padding = {2, 2}});
                      },
                      {"[max_pool2d]", "padding", "half the kernel"}),
      bad<ShapeError>("adaptive",
                      [] {
                        adaptive_avg_pool2d(f({1, 1, 4, 4}), {0, 1});
                      },
                      {"[adaptive_avg_pool2d]", "positive"}),
      bad<ShapeError>("batch_norm_one_value",
                      [] {
                        Tensor m, v;
                        batch_norm(f({1, 2, 1, 1}), {}, {}, m, v, true);
                      },
                      {"[batch_norm]", "more than one value"}),
      bad<ShapeError>("batch_norm_weight",
                      [] {
                        Tensor m, v;
                        batch_norm(f({2, 3}), f({2}), f({3}), m, v, true);
                      },
                      {"[batch_norm]", "f32[2]", "[3]"}),
      bad<ShapeError>("layer_norm",
                      [] {
                        layer_norm(f({2, 3}), {4});
                      },
                      {"[layer_norm]", "f32[2, 3]", "[..., 4]"}),
      bad<ShapeError>("mse", [] { mse_loss(f({2}), f({3})); }, {"[mse_loss]", "one shape"}),
      bad<ShapeError>("nll_shape",
                      [] {
                        nll_loss(f({2, 3}), labels({0}));
                      },
                      {"[nll_loss]", "[1]", "[2]"}),
      bad<ShapeError>("cross_entropy_shape",
                      [] {
                        cross_entropy(f({2, 3}), f({2, 4}));
                      },
                      {"[cross_entropy]", "[2, 4]", "[2, 3]"}),
      bad<ShapeError>("max_of_nothing", [] { max(f({0})); }, {"[max]", "[0]"}),
      bad<ShapeError>("argmin_of_nothing",
                      [] {
                        argmin(f({2, 0}), {1});
                      },
                      {"[argmin]"}),
      bad<ShapeError>("concat",
                      [] {
                        concat({f({2, 3}), f({2, 4})}, 0);
                      },
                      {"[concat]", "agree but for axis 0"}),
      bad<ShapeError>("stack",
                      [] {
                        stack({f({2}), f({3})});
                      },
                      {"[stack]", "one shape"}),
      bad<ShapeError>("pad",
                      [] {
                        pad(f({2, 3}), {1, 1});
                      },
                      {"[pad]", "[1, 1]"}),
      bad<ShapeError>("pad_negative",
                      [] {
                        pad(f({2}), {-1, 0});
                      },
                      {"[pad]", "negative", "-1"}),
      bad<ShapeError>("gather_rank",
                      [] {
                        gather(f({2, 3}), 0, ints({2}));
                      },
                      {"[gather]", "rank"}),
      bad<ShapeError>("embedding", [] { embedding(f({3}), ints({2})); },
                      {"[embedding]", "matrix", "[3]", "[V, D]"}),
      bad<ShapeError>("reshape",
                      [] {
                        f({2, 3}).reshape({4});
                      },
                      {"number of elements", "[2, 3] -> [4]"}),
      bad<ShapeError>("reshape_two",
                      [] {
                        f({2, 3}).reshape({-1, -1});
                      },
                      {"at most one", "-1"}),
      bad<ShapeError>("reshape_unclear",
                      [] {
                        f({0, 3}).reshape({-1, 0});
                      },
                      {"-1"}),
      bad<ShapeError>("view",
                      [] {
                        f({2, 3}).t().view({6});
                      },
                      {"[view]", "reshape would copy"}),
      bad<ShapeError>("permute",
                      [] {
                        f({2, 3}).permute({0, 0});
                      },
                      {"[permute]", "twice"}),
      bad<ShapeError>("permute_few",
                      [] {
                        f({2, 3}).permute({0});
                      },
                      {"[permute]", "2 axes"}),
      bad<ShapeError>("expand",
                      [] {
                        f({2, 3}).expand({2, 4});
                      },
                      {"[expand]", "[2, 3]", "[2, 4]"}),
      bad<ShapeError>("transpose_0d", [] { f({}).transpose(0, 0); }, {"[transpose]", "0-dim"}),
      bad<ShapeError>("select_0d", [] { f({}).select(0, 0); }, {"[select]", "0-dim"}),
      bad<ShapeError>("split_0d", [] { split(f({}), 1, 0); }, {"[split]", "0-dim"}),
      bad<ShapeError>("chunk_0d", [] { chunk(f({}), 1, -1); }, {"[chunk]", "0-dim"}),
      bad<ShapeError>("squeeze",
                      [] {
                        f({2, 3}).squeeze(0);
                      },
                      {"[squeeze]", "size 1"}),
      bad<ShapeError>("t", [] { f({2}).t(); }, {"[t]", "two axes", "[2]"}),
      bad<ShapeError>("channels_last",
                      [] {
                        f({2, 3}).to(MemoryFormat::channels_last);
                      },
                      {"[to]", "four axes", "[2, 3]"}),
      bad<ShapeError>("split_sizes",
                      [] {
                        split(f({5}), std::vector<std::int64_t>{2, 2});
                      },
                      {"[split]", "add up"}),
      bad<ShapeError>("nine_axes",
                      [] {
                        f({1, 1, 1, 1, 1, 1, 1, 1}).unsqueeze(0);
                      },
                      {"at most 8 axes", "9"}),
      bad<ShapeError>("negative",
                      [] {
                        zeros({2, -3});
                      },
                      {"[zeros]", "negative", "[2, -3]"}),
      bad<ShapeError>("huge",
                      [] {
                        zeros({std::int64_t{1} << 40, std::int64_t{1} << 40});
                      },
                      {"[zeros]", "too many elements"}),
      bad<ValueError>("full_beyond_type", [] { full({1}, 300, {.dtype = DType::u8}); },
                      {"[full]", "does not fit", "300", "u8"}),
      bad<ValueError>("fill_beyond_type", [] { zeros({1}, {.dtype = DType::i32}).fill_(1e10); },
                      {"[fill_]", "does not fit", "i32"}),
      bad<ShapeError>("from",
                      [] {
                        Tensor::from<float>({1, 2}, {3});
                      },
                      {"[from]", "as many values"}),
      bad<ShapeError>("item", [] { f({2}).item(); }, {"[item]", "one element", "f32[2]"}),
      bad<ShapeError>("inplace_shape",
                      [] {
                        f({3}).add_(f({2, 3}));
                      },
                      {"add", "in-place", "shape"}),
      bad<ShapeError>("assign",
                      [] {
                        Tensor d = f({2});
                        assign(d, f({3}));
                      },
                      {"[assign]", "broadcast", "[2] and [3]"}),
      bad<ShapeError>("add_expanded", [] { f({1}).expand({3}).add_(2); }, {"[add_]", "expanded"}),
      bad<ShapeError>("sgd",
                      [] {
                        const std::vector<Tensor> p{f({2})}, g{f({3})};
                        sgd_step(p, g, {}, full({}, 0.1), {});
                      },
                      {"[sgd_step]", "shape", "f32[3]"}),
      bad<ShapeError>("seed", [] { (leaf({2}) * 2).backward(f({3})); },
                      {"[backward]", "seed", "f32[3]", "f32[2]"}),
      bad<ShapeError>("no_seed", [] { (leaf({2}) * 2).backward(); },
                      {"[backward]", "one-element", "f32[2]"}),
      bad<ShapeError>("set_grad", [] { leaf({2}).set_grad(f({3})); },
                      {"[set_grad]", "f32[3]", "f32[2]"}),
      // dtypes
      bad<TypeError>("neg_bool", [] { -gt(f({2}), 0); }, {"[neg]", "bool"}),
      bad<TypeError>("sub_bool", [] { gt(f({2}), 0) - gt(f({2}), 0); }, {"[sub]", "bool"}),
      bad<TypeError>("where_cond", [] { where(f({2}), f({2}), f({2})); },
                     {"[where]", "bool", "f32[2]"}),
      bad<TypeError>("mean_int", [] { mean(ints({2})); }, {"[mean]", "float", "i64"}),
      bad<TypeError>("softmax_int", [] { softmax(ints({2})); }, {"[softmax]", "floating", "i64"}),
      bad<TypeError>("linear_mixed",
                     [] {
                       linear(f({2, 3}), f({4, 3}).to(DType::f64));
                     },
                     {"[linear]", "dtype"}),
      bad<TypeError>("conv_mixed",
                     [] {
                       conv2d(f({1, 1, 3, 3}), f({1, 1, 3, 3}).to(DType::bf16));
                     },
                     {"[conv2d]", "dtype"}),
      bad<TypeError>("conv_int",
                     [] {
                       conv2d(ints({1, 1, 3, 3}), ints({1, 1, 3, 3}));
                     },
                     {"[conv2d]", "floating"}),
      bad<TypeError>("labels_float",
                     [] {
                       nll_loss(f({2, 3}), f({2}));
                     },
                     {"[nll_loss]", "integers", "f32[2]"}),
      bad<TypeError>("index_float", [] { gather(f({2}), 0, f({2})); },
                     {"[gather]", "integers", "i32 or i64"}),
      bad<TypeError>("inplace_type", [] { ints({2}).add_(f({2})); },
                     {"add", "floating result", "integral"}),
      bad<TypeError>("data_type", [] { f({2}).data<double>(); },
                     {"[data]", "element type", "f64", "f32"}),
      bad<TypeError>("leaf_type", [] { ints({2}).set_requires_grad(); },
                     {"[set_requires_grad]", "floating", "i64[2]"}),
      bad<TypeError>("randn_int", [] { randn({2}, {.dtype = DType::i32}); }, {"float"}),
      bad<TypeError>("randint_float", [] { randint(0, 3, {2}, {.dtype = DType::f32}); },
                     {"[randint]", "integers"}),
      bad<TypeError>("lr_type",
                     [] {
                       const std::vector<Tensor> p{f({2})};
                       sgd_step(p, p, {}, ones({}, {.dtype = DType::i32}), {});
                     },
                     {"[sgd_step]", "learning rate"}),
      // devices
      bad<DeviceError>("cuda", [] { zeros({2}, {.device = Device::parse("cuda:15")}); }, {"cuda"}),
      bad<DeviceError>("to_cuda", [] { f({2}).to(Device::parse("cuda:15")); }, {"cuda"}),
      bad<DeviceError>("parse", [] { Device::parse("tpu"); }, {"[device]", "'tpu'"}),
      // values and indices
      bad<IndexError>("label",
                      [] {
                        nll_loss(f({2, 3}), labels({0, 3}));
                      },
                      {"[nll", "3"}),
      bad<IndexError>("label_negative",
                      [] {
                        cross_entropy(f({2, 3}), labels({0, -1}));
                      },
                      {"[cross_entropy]", "-1"}),
      bad<IndexError>("gather",
                      [] {
                        gather(f({3}), 0, labels({0, 3}));
                      },
                      {"[gather]", "3"}),
      bad<IndexError>("gather_negative", [] { gather(f({3}), 0, labels({-1})); },
                      {"[gather]", "-1"}),
      bad<IndexError>("scatter", [] { scatter_add(f({3}), 0, labels({5}), f({1})); },
                      {"[scatter_add]", "5"}),
      bad<IndexError>("index_select", [] { index_select(f({3}), 0, labels({3})); },
                      {"[index_select]", "3"}),
      bad<IndexError>("index_add", [] { index_add(f({3}), 0, labels({7}), f({1})); },
                      {"[index_add]", "7"}),
      bad<IndexError>("embedding_id",
                      [] {
                        embedding(f({3, 2}), labels({3}));
                      },
                      {"3"}),
      bad<IndexError>("one_hot", [] { one_hot(labels({4}), 4); }, {"[one_hot]", "4"}),
      bad<IndexError>("axis",
                      [] {
                        sum(f({2, 3}), {2});
                      },
                      {"[sum]", "axis", "2", "-2 to 1"}),
      bad<IndexError>("softmax_axis", [] { softmax(f({2}), 1); }, {"[softmax]", "axis"}),
      bad<IndexError>("select",
                      [] {
                        f({2, 3}).select(1, 3);
                      },
                      {"[select]", "out of range", "3"}),
      bad<IndexError>("transpose",
                      [] {
                        f({2, 3}).transpose(0, 2);
                      },
                      {"axis", "2"}),
      bad<ValueError>("axis_twice",
                      [] {
                        sum(f({2, 3}), {0, -2});
                      },
                      {"[sum]", "twice"}),
      bad<ValueError>("argmax_axes",
                      [] {
                        argmax(f({2, 3}), {0, 1});
                      },
                      {"[argmax]", "one axis"}),
      bad<ValueError>("step", [] { f({4}).slice(0, 0, 4, 0); }, {"[slice]", "step", "0"}),
      bad<ValueError>("arange", [] { arange(0, 3, 0); }, {"[arange]", "step"}),
      bad<ValueError>("linspace", [] { linspace(0, 1, -1); }, {"[linspace]", "negative", "-1"}),
      bad<ValueError>("pow", [] { pow(ints({2}), -1); }, {"[pow]", "negative", "-1"}),
      bad<ValueError>("scalar_range", [] { ones({2}, {.dtype = DType::u8}) + 300; },
                      {"[add]", "300"}),
      bad<ValueError>("split", [] { split(f({4}), 0); }, {"[split]", "at least 1"}),
      bad<ValueError>("chunk", [] { chunk(f({4}), 0); }, {"[chunk]", "at least 1"}),
      bad<ValueError>("concat_none", [] { concat(std::vector<Tensor>{}); },
                      {"[concat]", "at least one"}),
      bad<ValueError>("topk", [] { topk(f({3}), 4); }, {"[topk]", "4"}),
      bad<ValueError>("topk_negative", [] { topk(f({3}), -1); }, {"[topk]", "-1"}),
      bad<ValueError>("dropout", [] { dropout(f({3}), 1.5); }, {"[dropout]", "probability", "1.5"}),
      bad<ValueError>("uniform", [] { uniform({2}, 1, 0); }, {"1 and 0"}),
      bad<ValueError>("randint", [] { randint(3, 3, {2}); }, {"3 and 3"}),
      bad<ValueError>("randint_u8", [] { randint(0, 1000, {2}, {.dtype = DType::u8}); }, {"1000"}),
      bad<ValueError>("smoothing",
                      [] {
                        cross_entropy(f({2, 3}), labels({0, 1}), {.label_smoothing = 2});
                      },
                      {"[cross_entropy]", "label smoothing", "2"}),
      bad<ValueError>("dampening",
                      [] {
                        const std::vector<Tensor> p{f({2})};
                        sgd_step(p, p, slots(p), full({}, 0.1),
                                 {.momentum = 0.9, .dampening = -0.5},
                                 zeros({1}, {.dtype = DType::i64}));
                      },
                      {"[sgd_step]", "dampening", "got -0.5", "expected 0 to 1"}),
      bad<ValueError>("batch_norm_eps",
                      [] {
                        Tensor m, v;
                        batch_norm(f({2, 3}), {}, {}, m, v, true, 0.1, -1e-5);
                      },
                      {"[batch_norm]", "eps", "got -1e-05", "expected 0 or more"}),
      bad<ValueError>("batch_norm_momentum",
                      [] {
                        Tensor m = zeros({3}), v = ones({3});
                        batch_norm(f({2, 3}), {}, {}, m, v, true, 1.5);
                      },
                      {"[batch_norm]", "momentum", "got 1.5", "expected 0 to 1"}),
      bad<ValueError>("layer_norm_eps",
                      [] {
                        layer_norm(f({2, 3}), {3}, {}, {}, -1);
                      },
                      {"[layer_norm]", "eps", "got -1", "expected 0 or more"}),
      bad<ValueError>("nesterov",
                      [] {
                        const std::vector<Tensor> p{f({2})};
                        sgd_step(p, p, slots(p), full({}, 0.1), {.momentum = 0, .nesterov = true});
                      },
                      {"[sgd_step]"}),
      bad<ValueError>("betas",
                      [] {
                        const std::vector<Tensor> p{f({2})};
                        adam_step(p, p, slots(p), slots(p), full({}, 0.1),
                                  zeros({1}, {.dtype = DType::i64}), {.beta1 = 1});
                      },
                      {"[adam_step]", "decay rates"}),
      bad<ShapeError>("step_counts",
                      [] {
                        const std::vector<Tensor> p{f({2}), f({2})};
                        adam_step(p, p, slots(p), slots(p), full({}, 0.1),
                                  zeros({1}, {.dtype = DType::i64}), {});
                      },
                      {"[adam_step]", "one step count for each parameter", "i64[1]"}),
      bad<ValueError>("step_positions",
                      [] {
                        const std::vector<Tensor> p{f({2}), f({2})};
                        adam_step(p, p, slots(p), slots(p), full({}, 0.1),
                                  zeros({3}, {.dtype = DType::i64}), {.positions = {1, 3}});
                      },
                      {"[adam_step]", "positions of step counts", "[1, 3]", "0 to 2"}),
      bad<ValueError>("step_twice",
                      [] {
                        const std::vector<Tensor> p{f({2}), f({2})};
                        adam_step(p, p, slots(p), slots(p), full({}, 0.1),
                                  zeros({3}, {.dtype = DType::i64}), {.positions = {1, 1}});
                      },
                      {"[adam_step]", "positions of step counts", "[1, 1]"}),
      bad<ValueError>("counts",
                      [] {
                        const std::vector<Tensor> p{f({2})};
                        sgd_step(p, {}, {}, full({}, 0.1), {});
                      },
                      {"[sgd_step]", "one gradient for each parameter"}),
      bad<ValueError>("running_stats",
                      [] {
                        Tensor m, v;
                        batch_norm(f({2, 3}), {}, {}, m, v, false);
                      },
                      {"[batch_norm]", "running statistics"}),
      bad<ValueError>("half_running_stats",
                      [] {
                        Tensor m = f({3}), v;
                        batch_norm(f({2, 3}), {}, {}, m, v, true);
                      },
                      {"[batch_norm]", "come together"}),
      bad<ValueError>("conv_stride",
                      [] {
                        conv2d(f({1, 1, 3, 3}), f({1, 1, 3, 3}), {}, {.stride = {0, 1}});
                      },
                      {"[conv2d]", "stride"}),
      bad<ValueError>("flatten",
                      [] {
                        f({2, 3, 4}).flatten(2, 1);
                      },
                      {"[flatten]", "first axis"}),
      // the tape
      bad<AutogradError>("backward_twice",
                         [] {
                           const Tensor y = sum(square(leaf({2})));
                           y.backward();
                           y.backward();
                         },
                         {"already used", "test_errors.cpp:", "retain_graph"}),
      bad<AutogradError>("no_tape", [] { sum(f({2})).backward(); },
                         {"[backward]", "requires a gradient"}),
      bad<AutogradError>("grad_of_constant", [] { autograd::grad(sum(leaf({2})), {f({2})}); },
                         {"[grad]", "input 0 does not require"}),
      bad<AutogradError>("unrelated", [] { autograd::grad(sum(leaf({2})), {leaf({2})}); },
                         {"[grad]", "do not depend on input 0", "allow_unused"}),
      bad<AutogradError>("leaf_in_place", [] { leaf({2}).add_(1); },
                         {"[add_]", "leaf", "f32[2]", "NoGrad"}),
      bad<AutogradError>("view_in_place",
                         [] {
                           Tensor y = leaf({2, 2}) * 2;
                           y.select(0, 0);
                           y.add_(1);
                         },
                         {"[add_]", "views"}),
      bad<AutogradError>("copy_into_leaf", [] { leaf({2}).copy_(f({2})); },
                         {"[copy_]", "tape", "f32[2]"}),
      bad<AutogradError>("fill_leaf", [] { leaf({2}).fill_(0); }, {"fill"}),
      bad<AutogradError>("stop_non_leaf",
                         [] {
                           Tensor y = leaf({2}) * 2;
                           y.set_requires_grad(false);
                         },
                         {"[set_requires_grad]", "leaf"}),
      bad<AutogradError>("undefined_output", [] { autograd::grad(Tensor{}, {leaf({2})}); },
                         {"undefined"}),
  };
  return t;
}

class Errors : public testing::TestWithParam<std::size_t> {};

TEST_P(Errors, SaysWhatIsWrong) {
  const Bad& b = table()[GetParam()];
  bool later = false;
  try {
    b.call();
    later = true;
    // What is wrong with values a device can report only now.
    backend(default_device()).stream(default_device().index).synchronize();
    FAIL() << "nothing was thrown";
  } catch (const std::exception& e) {
    const std::string m = e.what();
    EXPECT_TRUE(b.is_right_class(e)) << "the wrong kind of error: " << m;
    EXPECT_EQ(m.front(), '[') << m;
    if (!later) {
      EXPECT_NE(m.find("(at test_errors.cpp:"), std::string::npos)
          << "no line of the user in: " << m;
    }
    for (const char* p : b.parts) {
      EXPECT_NE(m.find(p), std::string::npos) << "'" << p << "' is not in: " << m;
    }
  }
  // Nothing is left behind that the next call would trip over.
  EXPECT_EQ((ones({2}) + 1).to_vector<int>(), (std::vector<int>{2, 2}));
  EXPECT_TRUE(grad_enabled());
}

INSTANTIATE_TEST_SUITE_P(Table, Errors, testing::Range<std::size_t>(0, table().size()),
                         [](const auto& i) { return table()[i.param].name; });

}  // namespace
}  // namespace tandem

// Shapes, joining, indexing and sorting, bound to Python.
#include <functional>
#include <set>

#include "python/src/bind_op.h"

namespace tandem::python {

void bind_shapes() {
  const auto reshape = [](const Tensor& x, const Dims& s) { return at(x)->reshape(s, here()); };
  both("reshape", reshape,
       "The same elements in another shape; -1 stands for what is left. A view if it can be.",
       "shape"_a);
  also_apart("reshape", reshape);
  const auto view = [](const Tensor& x, const Dims& s) { return x.view(s, here()); };
  method("view", view, "shape"_a,
         "The same memory in another shape; RangeError where that would take a copy.");
  also_apart("view", view);
  both(
      "flatten",
      [](const Tensor& x, int start, int end) { return at(x)->flatten(start, end, here()); },
      "The axes start … end as one.", "start_axis"_a = 0, "end_axis"_a = -1);
  both(
      "transpose",
      [](const Tensor& x, std::optional<int> a, std::optional<int> b) {
        if (a && b) return at(x)->transpose(*a, *b, here());
        if (a || b) fail<ValueError>("transpose", "two axes or none", "one", "permute(axes)");
        Dims reversed;
        for (int i = x.rank() - 1; i >= 0; --i) reversed.push_back(i);
        return at(x)->permute(reversed, here());
      },
      "Two axes exchanged, or without any all in reverse order: a view.", "axis0"_a = py::none(),
      "axis1"_a = py::none());
  const auto permute = [](const Tensor& x, const Dims& a) { return at(x)->permute(a, here()); };
  both("permute_dims", permute, "The axes in another order: a view.", "axes"_a);
  method("permute", permute, "axes"_a, "The axes in another order: a view.");
  also_apart("permute", permute);
  both(
      "squeeze",
      [](const Tensor& x, const std::optional<Dims>& axes) {
        std::set<int, std::greater<>> all;  // from the last: the numbers of those before stay
        for (const std::int64_t a : axes.value_or(Dims())) {
          if (!all.insert(wrap_axis(a, x.rank(), "squeeze")).second) {
            fail<ValueError>("squeeze", "an axis can be named once", axes->str());
          }
        }
        for (int i = 0; !axes && i < x.rank(); ++i) {
          if (x.dim(i) == 1) all.insert(i);
        }
        Tensor r = x;
        for (const int a : all) r = at(r)->squeeze(a, here());
        return r;
      },
      "Without the axes of size 1, or without these: a view.", "axis"_a = py::none());
  both(
      "expand_dims", [](const Tensor& x, int axis) { return at(x)->unsqueeze(axis, here()); },
      "With a new axis of size 1: a view.", "axis"_a = 0);
  method(
      "unsqueeze", [](const Tensor& x, int axis) { return x.unsqueeze(axis, here()); }, "axis"_a,
      "With a new axis of size 1: a view.");
  both(
      "broadcast_to", [](const Tensor& x, const Dims& s) { return at(x)->expand(s, here()); },
      "x repeated along axes of size 1 and new ones: a view.", "shape"_a);
  function(
      "concat", [](const std::vector<Tensor>& xs, int axis) { return concat(xs, axis, here()); },
      "tensors"_a, "axis"_a = 0,
      "One after the other along an axis, in the dtype they promote to.");
  function(
      "stack", [](const std::vector<Tensor>& xs, int axis) { return stack(xs, axis, here()); },
      "tensors"_a, "axis"_a = 0, "Along a new axis, in the dtype they promote to.");
  both(
      "split",
      [](const Tensor& x, std::variant<std::int64_t, std::vector<std::int64_t>> s, int axis) {
        return std::holds_alternative<std::int64_t>(s) ? split(at(x), std::get<0>(s), axis)
                                                       : split(at(x), std::get<1>(s), axis);
      },
      "Views of `size` elements along an axis (the last may be smaller), or of those sizes.",
      "size"_a, "axis"_a = 0);
  both(
      "chunk", [](const Tensor& x, std::int64_t n, int axis) { return chunk(at(x), n, axis); },
      "At most `count` views of equal size along an axis; the last may be smaller.", "count"_a,
      "axis"_a = 0);
  both(
      "pad",
      [](const Tensor& x, const std::vector<std::int64_t>& before_after, Scalar v) {
        return pad(at(x), before_after, v);
      },
      "x with `value` around it: two counts for each axis, from axis 0.", "before_after"_a,
      "value"_a = 0);
  both(
      "flip",
      [](const Tensor& x, std::optional<Dims> axis) {
        Dims all;
        for (int i = 0; i < x.rank(); ++i) all.push_back(i);
        return flip(at(x), axis.value_or(all));
      },
      "In reverse order along the axes (all by default).", "axis"_a = py::none());
  both(
      "roll",
      [](const Tensor& x, const Dims& shift, const Dims& axis) { return roll(at(x), shift, axis); },
      "Elements moved along the axes; what falls off one end comes in at the other.", "shift"_a,
      "axis"_a);
  both(
      "gather", [](const Tensor& x, int axis, const Tensor& i) { return gather(at(x), axis, i); },
      "x at the positions `index` along an axis; the other axes as in `index`.", "axis"_a,
      "index"_a);
  both(
      "scatter_add",
      [](const Tensor& x, int axis, const Tensor& i, const Tensor& src) {
        return scatter_add(at(x), axis, i, src);
      },
      "x with src added at the positions `index` along an axis: the adjoint of gather.", "axis"_a,
      "index"_a, "src"_a);
  both(
      "take",
      [](const Tensor& x, const Tensor& i, int axis) { return index_select(at(x), axis, i); },
      "The slices at the positions `index` (rank 1) along an axis.", "index"_a, "axis"_a = 0);
  both(
      "index_add",
      [](const Tensor& x, int axis, const Tensor& i, const Tensor& src) {
        return index_add(at(x), axis, i, src);
      },
      "x with slice k of src added to slice index[k], in order.", "axis"_a, "index"_a, "src"_a);
  function(
      "embedding", [](const Tensor& w, const Tensor& ids) { return embedding(at(w), ids); },
      "weight"_a, "ids"_a, "Rows of weight [V, D] for ids of any shape: [..., D].");
  both(
      "one_hot",
      [](const Tensor& x, std::int64_t n, std::optional<DType> t) {
        return one_hot(at(x), n, t.value_or(DType::i64));
      },
      "[...] -> [..., classes]: 1 at the id, 0 elsewhere.", "classes"_a, "dtype"_a = py::none());
  both(
      "sort",
      [](const Tensor& x, int axis, bool descending) { return sort(at(x), axis, descending); },
      "(values, positions) in order along an axis; stable, a NaN counts as largest.", "axis"_a = -1,
      "descending"_a = false);
  both(
      "argsort",
      [](const Tensor& x, int axis, bool descending) {
        return sort(at(x), axis, descending).second;
      },
      "Positions (int64) in order along an axis; stable, a NaN counts as largest.", "axis"_a = -1,
      "descending"_a = false);
  both(
      "topk",
      [](const Tensor& x, std::int64_t k, int axis, bool largest) {
        return topk(at(x), k, axis, largest);
      },
      "(values, positions) of the k largest or smallest along an axis, best first.", "k"_a,
      "axis"_a = -1, "largest"_a = true);
}

}  // namespace tandem::python

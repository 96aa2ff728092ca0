#include "cuda/cublaslt.h"

#include <cublasLt.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>
#include <vector>

#include "cuda/operand.h"
#include "cuda/runtime.h"
#include "cuda/search.h"
#include "ops/matmul.h"
#include "ops/op_list.h"

namespace tandem::cuda {

namespace {

void check(cublasStatus_t code, const char* call, std::string_view context) {
  if (code == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  fail<DeviceError>(
      "cublaslt", fmt::format("{} ({}) on cuda:{} failed", call, context, detail::current_device),
      fmt::format("{}: {}", cublasLtGetStatusName(code), cublasLtGetStatusString(code)));
}

/// The current device's, which threads share. Never destroyed: at exit the driver may be gone.
cublasLtHandle_t handle_of(int device) {
  static std::array<std::once_flag, kMaxDevices> once;
  static std::array<cublasLtHandle_t, kMaxDevices> handles;
  const auto d = static_cast<std::size_t>(device);
  std::call_once(once[d],
                 [&] { check(cublasLtCreate(&handles[d]), "cublasLtCreate", cublaslt_version()); });
  return handles[d];
}

// A description does not say where in its buffer a tensor begins: there is an algorithm for
// operands that 16-byte accesses can read, and one for those that begin anywhere.
constexpr std::uint32_t kAligned = 16;
bool aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % kAligned == 0;
}
constexpr std::uint64_t kWorkspaceLimit = std::uint64_t{32} << 20;
// Operands that take more calls than this are copied, so that they lie in one piece.
constexpr std::int64_t kMostCalls = 32;

using Algorithm = cublasLtMatmulHeuristicResult_t;

/// A product as cuBLASLt wants it described. A copy of its descriptions is as good, and needs no
/// destroying.
class Description {
 public:
  Description(DType t, const GemmLayout& g, bool biased, bool relu, bool tf32, std::string context)
      : context_(std::move(context)), double_(t == DType::f64) {
    const cudaDataType_t data = t == DType::f64   ? CUDA_R_64F
                                : t == DType::f32 ? CUDA_R_32F
                                : t == DType::f16 ? CUDA_R_16F
                                                  : CUDA_R_16BF;
    const cublasComputeType_t compute = double_                   ? CUBLAS_COMPUTE_64F
                                        : t == DType::f32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                  : CUBLAS_COMPUTE_32F;
    check(cublasLtMatmulDescInit(&operation_, compute, double_ ? CUDA_R_64F : CUDA_R_32F),
          "cublasLtMatmulDescInit", context_);
    const auto transpose = [](const GemmLayout::Matrix& m) -> std::int32_t {
      return m.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    };
    set(operation_, CUBLASLT_MATMUL_DESC_TRANSA, transpose(g.b));
    set(operation_, CUBLASLT_MATMUL_DESC_TRANSB, transpose(g.a));
    if (biased || relu) {
      const cublasLtEpilogue_t epilogue = !biased ? CUBLASLT_EPILOGUE_RELU
                                          : relu  ? CUBLASLT_EPILOGUE_RELU_BIAS
                                                  : CUBLASLT_EPILOGUE_BIAS;
      set(operation_, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<std::uint32_t>(epilogue));
    }
    if (biased) {
      // Until the launch it only says how biases are aligned.
      set(operation_, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
          reinterpret_cast<const void*>(std::uintptr_t{kAligned}));
    }
    describe(b_, g.b, g.count, data);
    describe(a_, g.a, g.count, data);
    describe(c_, g.c, g.count, data);
  }

  /// The best ones first, at most `most`, for operands that begin at multiples of `alignment`
  /// bytes; none if there is none.
  std::vector<Algorithm> algorithms(cublasLtHandle_t handle, std::uint32_t alignment,
                                    std::size_t most) {
    cublasLtMatmulPreferenceOpaque_t preference{};
    check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit", context_);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t which, const auto& value) {
      check(cublasLtMatmulPreferenceSetAttribute(&preference, which, &value, sizeof value),
            "cublasLtMatmulPreferenceSetAttribute", context_);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceLimit);
    // Parts of a sum that meet in the output do so in its precision.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    for (const auto which :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      prefer(which, alignment);
    }
    std::vector<Algorithm> found(most);
    int count = 0;
    const cublasStatus_t code =
        cublasLtMatmulAlgoGetHeuristic(handle, &operation_, &b_, &a_, &c_, &c_, &preference,
                                       static_cast<int>(most), found.data(), &count);
    // Two ways to say that there is no algorithm; which one depends on what is asked for.
    if (code != CUBLAS_STATUS_NOT_SUPPORTED && code != CUBLAS_STATUS_INVALID_VALUE) {
      check(code, "cublasLtMatmulAlgoGetHeuristic", context_);
    }
    found.resize(static_cast<std::size_t>(count));
    std::erase_if(found, [](const Algorithm& a) { return a.state != CUBLAS_STATUS_SUCCESS; });
    return found;
  }

  /// c = a b + bias; no bias: null.
  void run(cublasLtHandle_t handle, cudaStream_t stream, const Algorithm& algorithm, const void* a,
           const void* b, const void* bias, void* c, void* workspace) const {
    // The library's functions do not say that they leave their descriptions alone.
    auto operation = operation_;
    auto* of_a = const_cast<cublasLtMatrixLayoutOpaque_t*>(&a_);
    auto* of_b = const_cast<cublasLtMatrixLayoutOpaque_t*>(&b_);
    auto* of_c = const_cast<cublasLtMatrixLayoutOpaque_t*>(&c_);
    if (bias) set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    const double one = 1, zero = 0;
    const float one_f = 1, zero_f = 0;
    const auto scale = [&](const double& d, const float& f) -> const void* {
      return double_ ? static_cast<const void*>(&d) : &f;
    };
    check(cublasLtMatmul(handle, &operation, scale(one, one_f), b, of_b, a, of_a,
                         scale(zero, zero_f), c, of_c, c, of_c, &algorithm.algo, workspace,
                         algorithm.workspaceSize, stream),
          "cublasLtMatmul", context_);
  }

 private:
  template <class V>
  void set(cublasLtMatmulDescOpaque_t& operation, cublasLtMatmulDescAttributes_t which,
           const V& value) const {
    check(cublasLtMatmulDescSetAttribute(&operation, which, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute", context_);
  }
  void describe(cublasLtMatrixLayoutOpaque_t& to, const GemmLayout::Matrix& m, std::int64_t count,
                cudaDataType_t data) const {
    check(cublasLtMatrixLayoutInit(&to, data, static_cast<std::uint64_t>(m.rows),
                                   static_cast<std::uint64_t>(m.columns), m.leading),
          "cublasLtMatrixLayoutInit", context_);
    if (count == 1) return;
    const auto matrices = static_cast<std::int32_t>(count);
    check(cublasLtMatrixLayoutSetAttribute(&to, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &matrices,
                                           sizeof matrices),
          "cublasLtMatrixLayoutSetAttribute", context_);
    check(cublasLtMatrixLayoutSetAttribute(&to, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                           &m.step, sizeof m.step),
          "cublasLtMatrixLayoutSetAttribute", context_);
  }

  std::string context_;
  bool double_;
  cublasLtMatmulDescOpaque_t operation_{};
  cublasLtMatrixLayoutOpaque_t a_{}, b_{}, c_{};
};

/// One of cuBLASLt's algorithms, put to work on operands made to fit.
struct Product {
  Description description;
  cublasLtHandle_t handle;
  Operand a, b;
  Axes<3> calls;
  std::size_t element;
  bool biased = false;
  StridedCopy dense_bias;  // for biases that are not: the copy goes to the workspace
  bool bias_is_dense = true;
  std::size_t bias_at = 0, workspace_at = 0;

  /// With one algorithm for operands that are aligned, and one for all others.
  void run(const LaunchArgs& args, const Algorithm& good, const Algorithm& any) const {
    const cudaStream_t stream = stream_of(args).handle();
    auto* own = static_cast<char*>(args.workspace);
    const auto* pa = a.load<const char>(args, args.in[0]);
    const auto* pb = b.load<const char>(args, args.in[1]);
    auto* pc = static_cast<char*>(args.out[0]);
    const void* bias = nullptr;
    if (biased) {
      bias = args.in[2];
      if (!bias_is_dense || !aligned(bias)) {
        dense_bias.run(args, own + bias_at, bias);
        bias = own + bias_at;
      }
    }
    Dims at(calls.rank(), 0);
    std::array<std::int64_t, 3> offset{};
    for (std::int64_t call = 0;; ++call) {
      const auto* left = pa + offset[0];
      const auto* right = pb + offset[1];
      auto* result = pc + offset[2];
      const bool fine = aligned(left) && aligned(right) && aligned(result);
      description.run(handle, stream, fine ? good : any, left, right, bias, result,
                      own + workspace_at);
      if (call + 1 == calls.count) return;
      for (int i = calls.rank() - 1;; --i) {  // to the next position
        const bool carry = ++at[i] == calls.size[i];
        for (std::size_t k = 0; k < 3; ++k) {
          offset[k] += calls.stride[k][i] * static_cast<std::int64_t>(element) *
                       (carry ? 1 - calls.size[i] : 1);
        }
        if (!carry) break;
        at[i] = 0;
      }
    }
  }
};

}  // namespace

std::string cublaslt_version() {
  const std::size_t v = cublasLtGetVersion();
  return fmt::format("cuBLASLt {}.{}.{}", v / 10000, v % 10000 / 100, v % 100);
}

RefPtr<Plan> cublaslt_plan(const PlanRequest& r) {
  const bool linear = r.op.id == id_of(OpId::linear_);
  if ((!linear && r.op.id != id_of(OpId::matmul_)) || !is_floating(r.in[0].dtype)) return {};
  TensorDesc a = r.in[0], b = r.in[1];
  const auto product = [&] { return linear ? linear_product(a, b) : matrix_product(a, b); };
  const MatrixProduct p = product();
  if (p.empty() || p.k == 0) return {};

  GemmLayout g = gemm_layout(p);
  std::size_t workspace = 0;
  const bool many = g.calls.count > kMostCalls;
  if (many || !g.a.fits) a = TensorDesc(a.dtype, a.device, a.shape);
  if (many || !g.b.fits) b = TensorDesc(b.dtype, b.device, b.shape);
  g = gemm_layout(product());
  if (g.calls.count > kMostCalls || g.count > INT32_MAX) return {};

  const int device = a.device.index;
  const DeviceScope scope(device);
  const RelaxedCapture relaxed;
  const bool biased = r.in.size() == 3;
  Product out{.description = Description(
                  a.dtype, g, biased, linear && r.attrs<LinearAttrs>().relu, r.policy.tf32,
                  fmt::format("{} of {} and {}", r.op.name, r.in[0].str(), r.in[1].str())),
              .handle = handle_of(device),
              .a = Operand(r.in[0], a.strides, workspace),
              .b = Operand(r.in[1], b.strides, workspace),
              .calls = g.calls,
              .element = size_of(a.dtype),
              .biased = biased,
              .dense_bias = {}};
  if (biased) {
    const TensorDesc& bias = r.in[2];
    const TensorDesc dense(bias.dtype, bias.device, bias.shape);
    out.bias_is_dense = bias.is_contiguous();
    out.dense_bias = StridedCopy(dense, bias);
    out.bias_at = reserve(workspace, dense.bytes());
  }
  out.workspace_at = workspace;

  CudaStream& stream = current_stream(device);
  // Recorded, the candidates would only become part of the graph.
  const std::size_t search = stream.capturing ? 0 : r.policy.search;
  auto good = out.description.algorithms(out.handle, kAligned, std::max<std::size_t>(search, 1));
  const auto any =
      out.description.algorithms(out.handle, static_cast<std::uint32_t>(out.element), 1);
  if (good.empty() || any.empty()) return {};
  if (good.size() > 1) {
    std::size_t most = 0;
    for (const Algorithm& one : good) most = std::max(most, one.workspaceSize);
    try {
      std::swap(good[0], good[fastest(r, stream, good.size(), workspace + most,
                                      [&](std::size_t i, const LaunchArgs& args) {
                                        out.run(args, good[i], any[0]);
                                      })]);
    } catch (const OutOfMemoryError&) {
      // The first is the one that the heuristics think best.
    }
  }
  workspace += std::max(good[0].workspaceSize, any[0].workspaceSize);
  RefPtr<Plan> plan = make_plan(
      linear ? "cublaslt:linear" : "cublaslt:matmul",
      [out = std::move(out), good = good[0], any = any[0]](const LaunchArgs& args) {
        out.run(args, good, any);
      },
      workspace);
  // Another algorithm may be the best one then; what becomes of NaN is not documented.
  plan->epilogue = Exactness::approximate;
  return plan;
}

}  // namespace tandem::cuda

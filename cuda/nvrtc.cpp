#include "cuda/nvrtc.h"

#include <nvrtc.h>

#include <vector>

#include "core/error.h"
#include "cuda/embedded.h"

namespace tandem::cuda {

namespace {

void check(nvrtcResult code, const char* call) {
  if (code == NVRTC_SUCCESS) return;
  fail<InternalError>("nvrtc", fmt::format("{} failed: {}", call, nvrtcGetErrorString(code)));
}

struct Program {
  explicit Program(const std::string& source) {
    std::vector<const char*> texts, names;
    for (const EmbeddedHeader& h : embedded_headers()) {
      texts.push_back(h.text);
      names.push_back(h.name);
    }
    check(nvrtcCreateProgram(&handle, source.c_str(), "tandem.cu", static_cast<int>(names.size()),
                             texts.data(), names.data()),
          "nvrtcCreateProgram");
  }
  ~Program() { nvrtcDestroyProgram(&handle); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  std::string log() const {
    std::size_t n = 0;
    if (nvrtcGetProgramLogSize(handle, &n) != NVRTC_SUCCESS || n == 0) return {};
    std::string s(n, '\0');
    nvrtcGetProgramLog(handle, s.data());
    s.pop_back();  // the zero
    return s;
  }

  nvrtcProgram handle = nullptr;
};

/// The architectures this NVRTC makes code for, ascending: 75, 80, ….
const std::vector<int>& architectures() {
  static const std::vector<int> all = [] {
    int n = 0;
    check(nvrtcGetNumSupportedArchs(&n), "nvrtcGetNumSupportedArchs");
    std::vector<int> a(static_cast<std::size_t>(n));
    check(nvrtcGetSupportedArchs(a.data()), "nvrtcGetSupportedArchs");
    return a;
  }();
  return all;
}

}  // namespace

std::string nvrtc_version() {
  int major = 0, minor = 0;
  check(nvrtcVersion(&major, &minor), "nvrtcVersion");
  return fmt::format("{}.{}", major, minor);
}

std::string nvrtc_compile(const std::string& source, int major, int minor) {
  const int wanted = 10 * major + minor;
  int known = 0;
  for (const int a : architectures()) {
    if (a <= wanted) known = a;
  }
  if (known == 0) {
    fail<InternalError>("nvrtc", "this version makes no code for the GPU",
                        fmt::format("compute capability {}.{}", major, minor),
                        fmt::format("at least {}", architectures().at(0)));
  }
  const bool cubin = known == wanted;
  const std::string arch = fmt::format("--gpu-architecture={}_{}", cubin ? "sm" : "compute", known);
  std::vector<const char*> options = {arch.c_str()};
  options.insert(options.end(), std::begin(kNvrtcOptions), std::end(kNvrtcOptions));
  const Program p(source);
  if (nvrtcCompileProgram(p.handle, static_cast<int>(options.size()), options.data()) !=
      NVRTC_SUCCESS) {
    fail<InternalError>("nvrtc", "a generated kernel does not compile",
                        fmt::format("\n{}\n{}", p.log(), source));
  }
  const auto code = [&](const char* size_call, auto size, const char* call, auto get) {
    std::size_t n = 0;
    check(size(p.handle, &n), size_call);
    std::string s(n, '\0');
    check(get(p.handle, s.data()), call);
    return s;
  };
  return cubin ? code("nvrtcGetCUBINSize", nvrtcGetCUBINSize, "nvrtcGetCUBIN", nvrtcGetCUBIN)
               : code("nvrtcGetPTXSize", nvrtcGetPTXSize, "nvrtcGetPTX", nvrtcGetPTX);
}

}  // namespace tandem::cuda
